"""What other processes do to a registry while the tests of the registry look: each function is the
work of one process, and tells what came of it in a queue or a file."""

import os, resource, signal, sys

from trending_now.registry import stores
from trending_now.registry.registry import Registry
from trending_now.registry.stages import RegistryError
from trending_now.registry.stores import LocalStore


def answer(act, *args, **kw):
    "What came back, as ('done', value) or ('refused', message)."
    try:
        return "done", act(*args, **kw)
    except RegistryError as e:
        return "refused", str(e)


def promote_in_rounds(paths, version, over, barrier, queue):
    "Promote a version in each registry, at the same moment as another process."
    found = []
    for path in paths:
        registry = Registry.open(f"local:{path}")
        barrier.wait()
        found.append(answer(registry.promote, version, f"{version}'s friend", "race", over=over))
    queue.put((version, found))


def make_at_once(paths, barrier, queue):
    "Open registries that are not there yet, and write into them."
    for path in paths:
        barrier.wait()
        Registry.open(f"local:{path}").log_run("first", {}, {})
    queue.put("done")


def promote_for_ever(path, acknowledged, versions, number):
    "Promote one version after the other, and write down each promotion after it returned."
    registry = Registry.open(f"local:{path}")
    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, b"ready\n")
    for turn in range(sys.maxsize):
        champion = registry.champion()
        version = next(v for v in versions if v != champion)
        key = f"{number}-{turn}"
        registry.promote(version, "loop", "again", key=key)
        os.write(log, f"{version} {key}\n".encode())


class DiesAfterCopying(LocalStore):
    def add_files(self, version, folder):
        super().add_files(version, folder)
        os.kill(os.getpid(), signal.SIGKILL)


def die_after_copying(path, folder, key):
    "Register a model, and be killed when its files are there and the event is not."
    Registry(DiesAfterCopying(path)).register(folder, {}, None, key=key)


def die_while_copying(path, folder, key):
    "Register a model, and be killed before its second file."
    copy = stores.shutil.copyfile

    def once(source, target):
        if list(target.parent.glob("*")):
            os.kill(os.getpid(), signal.SIGKILL)
        copy(source, target)

    stores.shutil.copyfile = once
    Registry.open(f"local:{path}").register(folder, {}, None, key=key)


def use_without_rights(path, folder, queue):
    "Read and write as a user who may only read."
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    registry = Registry.open(f"local:{path}")
    queue.put(
        {
            "champion": registry.champion(),
            "verify": answer(registry.verify, "v1"),
            "promote": answer(registry.promote, "v2", "somebody", "tries"),
            "register": answer(registry.register, folder, {}, None),
            "prune": answer(registry.prune, 0),
            "new": answer(Registry.open, f"local:{path}/another"),
        }
    )


def use_on_a_full_disk(path, folder, most, queue):
    "Write where no file may become longer than so many bytes."
    registry = Registry.open(f"local:{path}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    queue.put(
        {
            "promote": answer(registry.promote, "v2", "somebody", "tries"),
            "register": answer(registry.register, folder, {}, None),
            "new": answer(Registry.open, f"local:{path}/another"),
        }
    )
