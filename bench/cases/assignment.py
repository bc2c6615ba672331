"Assignment: which of two variants each of many visitors sees."

from parts import Row, Side

TITLE = "Assignment"
ABOUT = """Ids are a list of Python texts on both sides. Ours uses GrowthBook's hash (FNV-1a,
version 2), so that both sides must put each id into the same variant."""
SEED = "genres-v2"


def ids(folder, rows):
    "Ids, a line each, all of one length."
    lines = "\n".join(f"v{number:07}" for number in range(rows))
    (folder / "ids.txt").write_text(lines)


def read_ids(folder): return (folder / "ids.txt").read_text().split("\n")


def counted(arms):
    "Who is where, in a few numbers that any other split would change."
    arms = [int(arm) for arm in arms]
    marks = sum(place * arm for place, arm in enumerate(arms))
    return {"ids": len(arms), "in the second variant": sum(arms), "their places": marks}


def ours(folder):
    from trending_now.ab import assign_many
    units = read_ids(folder)
    return lambda: assign_many(units, SEED, [.5, .5])


def growthbook_hash(folder):
    "GrowthBook's own hash, and the variant that it falls into."
    from growthbook.core import gbhash
    units = read_ids(folder)
    return lambda: [int(gbhash(SEED, unit, 2) >= .5) for unit in units]


def growthbook_sdk(folder):
    "An experiment that GrowthBook's SDK evaluates for each visitor."
    from growthbook import Experiment, GrowthBook
    units = read_ids(folder)
    test = Experiment(key="genres", variations=[0, 1], weights=[.5, .5], hashVersion=2, seed=SEED)

    def work():
        client, arms = GrowthBook(attributes={}), []
        for unit in units:
            client.set_attributes({"id": unit})
            arms.append(client.run(test).value)
        return arms
    return work


def fnv(columns, begin):
    "FNV-1a of many texts of one length, a column a character."
    import numpy as np
    h = np.full(len(columns[0]), begin, np.uint32)
    for column in columns:
        h ^= column
        h *= np.uint32(16777619)
    return h


def hash_alone(folder):
    "Both rounds of the hash, on ids that are taken to be of one length; nothing is checked."
    import numpy as np
    units = read_ids(folder)
    begin = int(fnv([np.array([ord(c)], np.uint32) for c in SEED], 2166136261)[0])
    powers = [np.uint32(10**power) for power in range(9, -1, -1)]

    def work():
        table = np.frombuffer("".join(units).encode(), np.uint8).reshape(len(units), -1)
        columns, arms = np.ascontiguousarray(table.T), np.empty(len(units), np.int64)
        for at in range(0, len(units), 16_384):
            part = slice(at, at + 16_384)
            first = fnv([column[part] for column in columns], begin)
            digits = [first // power % np.uint32(10) + np.uint32(48) for power in powers]
            arms[part] = fnv(digits, 2166136261) % np.uint32(10_000) >= 5_000
        return arms
    return work


LIMIT = ("the ids as bytes and the hash alone in NumPy, all ids taken to be as long, and all "
         "numbers to have ten digits (its variants are not compared)")


def row(name, words, rows, theirs):
    return Row(name, words, ids, {"rows": rows}, {"rows": 2_000},
               Side(ours, numbers=counted, package="trending-now"), theirs,
               Side(hash_alone, numbers=lambda arms: {}), LIMIT)


ROWS = (
    row("the hash, 1e6", "1,000,000 ids", 1_000_000,
        {"growthbook's gbhash": Side(growthbook_hash, "current", "growthbook", counted)}),
    row("an experiment, 1e5", "100,000 ids", 100_000,
        {"growthbook's SDK": Side(growthbook_sdk, "current", "growthbook", counted)}),
)
