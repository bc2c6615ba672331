"Environments for the peers, below .venv/bench, each built once from its file of pins."

import hashlib, subprocess, sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
BUILT = ROOT / ".venv" / "bench"


class NotBuilt(RuntimeError):
    "An environment that could not be built; the message ends with what pip said."


def pins(name: str) -> Path:
    "The file that pins an environment."
    return BENCH / "environments" / f"{name}.txt"


def mark(name: str) -> str:
    "What an environment is built from; it is built again when this changes."
    text = pins(name).read_bytes() + sys.version.encode()
    return hashlib.sha256(text).hexdigest()


def python_of(name: str) -> str:
    "The Python of an environment."
    if name == "ours": return sys.executable
    return str(BUILT / name / "bin" / "python")


def is_built(name: str) -> bool:
    "Whether an environment is there as its pins say."
    made = BUILT / name / ".made"
    return name == "ours" or (made.exists() and made.read_text() == mark(name))


def build(name: str) -> None:
    "Build an environment unless it is there; NotBuilt with what pip said."
    if is_built(name): return
    folder = BUILT / name
    call([sys.executable, "-m", "venv", "--clear", str(folder)], name)
    call([python_of(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
          "--no-deps", "--ignore-requires-python", "-r", str(pins(name))], name)
    (folder / ".made").write_text(mark(name))


def call(command: list, name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode: raise NotBuilt(f"environment {name}: {done.stderr.strip()[-800:]}")


def version_in(name: str, package: str) -> str:
    "The version of a package in an environment; '' for none."
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python_of(name), "-c", code], capture_output=True, text=True)
    return done.stdout.strip()
