"results.json as a page of tables: results.md."

import statistics

HEADER = """<!-- Written by bench/run.py from results.json: run `make bench`, do not edit. -->

# Speed, side by side

The same work on the same input, in turn: ours, theirs, ours, theirs. Each side has a process and
an environment of its own, loads its libraries and its input before the clock starts, and runs once
untimed; that run's result must agree with ours, or nothing is timed.

- **ratio**: their seconds over ours, of each pair of runs. Above 1 ours is faster: 3 means that
  theirs takes three times as long.
- **limit**: our seconds over those of the least that any program must do for this result; 1 means
  that nothing is left to gain. The least is said below each table.
"""


def seconds(values) -> str:
    "A median time in three digits."
    return f"{statistics.median(values):.3g}" if values else "-"


def number(x: float) -> str:
    "A ratio in two or three digits."
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def ratios(over: list, under: list) -> list:
    "The quotient of each pair of runs."
    return [a / b for a, b in zip(over, under)]


def spread(values: list) -> str:
    "Least, median and greatest."
    if not values: return "-"
    return " / ".join(number(f(values)) for f in (min, statistics.median, max))


def machine_lines(found: dict) -> list:
    "What was measured on, as a list."
    machine = found["machine"]
    days = sorted({row["date"] for row in found["rows"]})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    lines = [f"- Machine: {machine['cores']} cores, {machine['processor']}, {machine['memory']}, "
             f"{machine['system']}.",
             f"- Python {machine['python']}; measured {when}."]
    peers = sorted(f"{name} {version}" for name, version in found["versions"].items())
    return lines + [f"- Versions: {', '.join(peers)}."]


def limit_cell(row: dict) -> str:
    limit = row["sides"].get("limit", {}).get("seconds")
    if not limit: return "-"
    return number(statistics.median(ratios(row["sides"]["ours"]["seconds"], limit)))


def peer_line(row: dict, name: str, first: bool) -> str:
    "The line of one peer; what is ours stands in the first line of a row only."
    ours, side = row["sides"]["ours"], row["sides"][name]
    left = [row["row"], row["input"], seconds(ours["seconds"])] if first else ["", "", ""]
    limit = limit_cell(row) if first else ""
    if side["state"] != "measured":
        return cells([*left, f"{name}: **{side['state']}**", "-", limit, side["note"]])
    found = spread(ratios(side["seconds"], ours["seconds"]))
    return cells([*left, f"{name}: {seconds(side['seconds'])}", found, limit, side["note"]])


def cells(words) -> str:
    return "| " + " | ".join(word.replace("|", "/") for word in words) + " |"


def row_lines(row: dict) -> list:
    "A row of the table: a line for each peer, or one for a row without."
    peers = [name for name in row["sides"] if name not in ("ours", "limit")]
    if peers: return [peer_line(row, name, name == peers[0]) for name in peers]
    ours = row["sides"]["ours"]
    state = "" if ours["state"] == "measured" else f"**{ours['state']}**"
    return [cells([row["row"], row["input"], seconds(ours["seconds"]) if not state else state, "-",
                   "-", limit_cell(row) if not state else "-", ours["note"]])]


def family_lines(title: str, about: str, rows: list) -> list:
    "The table of a family, what its limits are, and its reasons."
    head = ["row", "input", "ours, s", "theirs, s", "ratio: min / median / max", "limit",
            "beside it"]
    lines = ["", f"## {title}", "", about, "", cells(head), cells(["---"] * len(head))]
    for row in rows: lines += row_lines(row)
    limits = [f"- Limit: {words}. (Of {names}.)" for words, names in told(rows, "limit_is")]
    reasons = [f"- {words} ({names}.)" for words, names in told(rows, "reason")]
    return lines + [""] * bool(limits + reasons) + limits + reasons


def told(rows: list, what: str) -> list:
    "(words, the rows that they are said of), each of the words once."
    words = dict.fromkeys(row[what] for row in rows if row[what])
    return [(one, "; ".join(row["row"] for row in rows if row[what] == one)) for one in words]


def rendered(found: dict) -> str:
    "All of results.md."
    lines = HEADER.splitlines() + ["", *machine_lines(found)]
    for family, (title, about) in found["families"].items():
        rows = [row for row in found["rows"] if row["family"] == family]
        if rows: lines += family_lines(title, about, rows)
    return "\n".join(lines) + "\n"
