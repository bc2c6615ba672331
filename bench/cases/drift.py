"Drift: distances of two samples with their tests, and alarms over a stream."

from parts import Row, Side, close

TITLE = "Drift"
ABOUT = """Two samples lie in memory, as each side takes them; packages whose measure is
another one (such as bins of equal width for PSI, or alarms for rises only) are left out of that
row. In the rows of streams each value is told by itself."""
MEASURES = 4   # pairs of columns in each row of numbers
GENRES = ("action", "adventure", "comedy", "crime", "documentary", "drama", "fantasy", "horror",
          "music", "mystery", "romance", "thriller")


# ------------------------------------------------------------ inputs

def numbers(folder, rows):
    "Pairs of columns of numbers, the second a little higher each time."
    import numpy as np
    rng = np.random.default_rng(7)
    pairs = {}
    for k in range(MEASURES):
        pairs[f"then{k}"] = rng.normal(size=rows)
        pairs[f"now{k}"] = rng.normal(.001 * k, 1, rows)
    np.savez(folder / "numbers.npz", **pairs)


def texts(folder, rows):
    "Two columns of genres."
    import numpy as np, pandas as pd
    rng = np.random.default_rng(7)
    shares = rng.dirichlet(np.full(len(GENRES), 5.), 2)
    then, now = (rng.choice(GENRES, rows, p=p) for p in (shares[0], .98*shares[0] + .02*shares[1]))
    pd.DataFrame({"then": then, "now": now}).to_parquet(folder / "texts.parquet")
    np.savez(folder / "texts.npz", then=then, now=now)


def stream(folder, rows):
    "Values from 0 to 1 whose mean moves five times."
    import numpy as np
    rng = np.random.default_rng(7)
    means = np.repeat([.3, .45, .3, .6, .5], -(-rows // 5))[:rows]
    np.save(folder / "stream.npy", np.clip(rng.normal(means, .1), 0, 1))


def pairs_of(folder):
    import numpy as np
    with np.load(folder / "numbers.npz") as stored:
        return [(stored[f"then{k}"], stored[f"now{k}"]) for k in range(MEASURES)]


def columns_of(folder):
    import pandas as pd
    table = pd.read_parquet(folder / "texts.parquet")
    return table.then, table.now


def arrays_of(folder):
    "The same for packages that take NumPy's arrays."
    import numpy as np
    with np.load(folder / "texts.npz") as stored: return stored["then"], stored["now"]


def values_of(folder):
    import numpy as np
    return np.load(folder / "stream.npy").tolist()


# ------------------------------------------------------------ numbers

def of_pairs(measure):
    "A function of two columns, on all pairs."
    def prepare(folder):
        pairs = pairs_of(folder)
        compare = measure()
        return lambda: [compare(then, now) for then, now in pairs]
    return prepare


def our(name, **more):
    def measure():
        from trending_now import triggers
        found = getattr(triggers, name)
        return lambda then, now: found(then, now, **more)
    return measure


def told(results):
    "Statistic and p-value of each of our or SciPy's results."
    tests = [[float(r.statistic), float(r.p_value if hasattr(r, "p_value") else r.pvalue)]
             for r in results]
    return {"statistic": [t[0] for t in tests], "p": [t[1] for t in tests]}


def statistics_of(results): return {"statistic": [r.statistic for r in results]}


def as_statistics(values): return {"statistic": [float(value) for value in values]}


def naive_psi():
    "PSI as it is usually written: search the bin of each value."
    import numpy as np

    def compare(then, now, bins=10):
        edges = np.unique(np.quantile(then, np.linspace(0, 1, bins + 1)[1:-1]))
        shares = [np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x)
                  for x in (then, now)]
        e, a = (np.maximum(share, 1e-4) for share in shares)
        return ((a - e) * np.log(a / e)).sum()
    return compare


def bare_psi():
    "The deciles of one sample, and how many values of both lie below each."
    import numpy as np
    tenths = np.linspace(0, 1, 11)[1:-1]

    def compare(then, now):
        edges = np.quantile(then, tenths)
        below = [[np.count_nonzero(x <= edge) for edge in edges] for x in (then, now)]
        e, a = (np.diff([0, *counts, len(then)]) / len(then) for counts in below)
        return ((a - e) * np.log(a / e)).sum()
    return compare


def scipy_ks():
    from scipy.stats import ks_2samp
    return lambda then, now: ks_2samp(then, now)


def bare_sorts():
    import numpy as np
    return lambda then, now: (np.sort(then)[0], np.sort(now)[0])


def alibi_ks():
    from alibi_detect.cd import KSDrift

    def compare(then, now):
        data = KSDrift(then[:, None]).predict(now[:, None])["data"]
        return data["distance"][0], data["p_val"][0]
    return compare


def frouros_ks():
    from frouros.detectors.data_drift import KSTest

    def compare(then, now):
        test = KSTest()
        test.fit(X=then)
        return tuple(test.compare(X=now)[0])
    return compare


def evidently_ks():
    import pandas as pd
    from evidently.legacy.calculations.stattests import ks_stat_test
    from evidently.legacy.core import ColumnType

    def compare(then, now):
        found = ks_stat_test(pd.Series(then), pd.Series(now), ColumnType.Numerical, .05)
        return found.drift_score
    return compare


def pairs_told(results):
    return {"statistic": [float(s) for s, _ in results], "p": [float(p) for _, p in results]}


# ------------------------------------------------------------ texts

def of_columns(measure, read=columns_of):
    "A function of two columns of texts."
    def prepare(folder):
        then, now = read(folder)
        compare = measure()
        return lambda: compare(then, now)
    return prepare


def counts(then, now):
    "How many of each genre, by Arrow: the least for any measure of categories."
    import pyarrow.compute as pc
    return [sorted((row["values"], row["counts"]) for row in pc.value_counts(x).to_pylist())
            for x in (then, now)]


def bare_counts(folder):
    import pyarrow.parquet as pq
    table = pq.read_table(folder / "texts.parquet")
    return lambda: counts(table["then"], table["now"])


def evidently_of(name):
    def measure():
        from evidently.legacy.calculations import stattests
        from evidently.legacy.core import ColumnType
        test = getattr(stattests, name)
        return lambda then, now: test(then, now, ColumnType.Categorical, .1).drift_score
    return measure


def in_bits(distance):
    "Jensen-Shannon distance to base 2, from natural logarithms."
    import math
    return {"statistic": float(distance) / math.sqrt(math.log(2))}


def scipy_chi2():
    import pandas as pd
    from scipy.stats import chi2_contingency

    def compare(then, now):
        table = pd.concat([then.value_counts(), now.value_counts()], axis=1).to_numpy()
        return chi2_contingency(table.T, correction=False)
    return compare


def frouros_chi2():
    from frouros.detectors.data_drift import ChiSquareTest

    def compare(then, now):
        test = ChiSquareTest()
        test.fit(X=then)
        found = test.compare(X=now)[0]
        return found.statistic, found.p_value
    return compare


def alibi_chi2():
    from alibi_detect.cd import ChiSquareDrift

    def compare(then, now):
        found = ChiSquareDrift(then[:, None]).predict(now[:, None])["data"]
        return found["distance"][0], found["p_val"][0]
    return compare


def one_pair(result): return pairs_told([result])


# ------------------------------------------------------------ streams

def our_alarm(name, **more):
    "Begun anew after each alarm, as River does it."
    def prepare(folder):
        from trending_now import triggers
        values = values_of(folder)

        def work():
            alarm, places = getattr(triggers, name)(**more), []
            for place, x in enumerate(values):
                if not alarm.see(x): continue
                places.append(place)
                alarm = getattr(triggers, name)(**more)
            return places
        return work
    return prepare


def river_alarm(name, **more):
    def prepare(folder):
        from river import drift
        values = values_of(folder)

        def work():
            alarm, places = getattr(drift, name)(**more), []
            for place, x in enumerate(values):
                alarm.update(x)
                if alarm.drift_detected: places.append(place)
            return places
        return work
    return prepare


def places(found): return {"alarms": found}


# ------------------------------------------------------------ a permutation test

DRAWS = 999


def our_wasserstein(folder):
    from trending_now.triggers import wasserstein
    then, now = pairs_of(folder)[MEASURES - 1]
    return lambda: (wasserstein(then, now, draws=DRAWS), then.std())


def scipy_wasserstein(folder):
    from scipy.stats import permutation_test, wasserstein_distance
    then, now = pairs_of(folder)[MEASURES - 1]
    return lambda: permutation_test(
        (then, now), wasserstein_distance, n_resamples=DRAWS, alternative="greater", rng=7)


def frouros_wasserstein(folder):
    from frouros.callbacks import PermutationTestDistanceBased
    from frouros.detectors.data_drift import EMD
    then, now = pairs_of(folder)[MEASURES - 1]

    def work():
        callback = PermutationTestDistanceBased(
            DRAWS, num_jobs=1, method="conservative", random_state=7, name="p")
        test = EMD(callbacks=[callback])
        test.fit(X=then)
        found, logs = test.compare(X=now)
        return found.distance, logs["p"]["p_value"]
    return work


def same_distance_and_p(ours, theirs):
    "Equal distances; p-values of other permutations may differ by chance."
    said = close(1e-9)({"statistic": ours["statistic"]}, theirs)
    if said: return said
    a, b = ours["p"][0], theirs["p"][0]
    error = (2 * max(a * (1 - a), .001) / DRAWS) ** .5
    return "" if abs(a - b) < 4 * error + .002 else f"p: {a} beside {b}"


# ------------------------------------------------------------ rows

BOUND = "What is left is finding the deciles, counting the texts, or sorting, as the limit says."
MILLION, SMALL = {"rows": 1_000_000}, {"rows": 3_000}
NUMBERS = f"{MEASURES} pairs of columns of 1,000,000 numbers"
TEXTS = "two columns of 1,000,000 texts, 12 different ones"
COUNTED = Side(bare_counts, numbers=lambda found: {"rows": sum(n for _, n in found[0])})
COUNTED_IS = "Arrow's counts of both columns of texts"


def evidently(name, told):
    return Side(of_columns(evidently_of(name)), "evidently", "evidently", told)


ROWS = (
    Row("PSI of numbers, 1e6", NUMBERS, numbers, MILLION, SMALL,
        Side(of_pairs(our("psi")), numbers=statistics_of, package="trending-now"),
        {"plain NumPy": Side(of_pairs(naive_psi), numbers=as_statistics)},
        Side(of_pairs(bare_psi), numbers=as_statistics),
        "deciles by NumPy, and a comparison with each of them", reason=BOUND),
    Row("PSI of texts, 1e6", TEXTS, texts, MILLION, SMALL,
        Side(of_columns(our("psi")), numbers=lambda r: {"statistic": r.statistic}),
        {"evidently": evidently("psi_stat_test", lambda x: {"statistic": float(x)})},
        COUNTED, COUNTED_IS, reason=BOUND),
    Row("Jensen-Shannon of texts, 1e6", TEXTS, texts, MILLION, SMALL,
        Side(of_columns(our("js")), numbers=lambda r: {"statistic": r.statistic}),
        {"evidently": evidently("jensenshannon_stat_test", in_bits)}, COUNTED, COUNTED_IS),
    Row("chi-square of texts, 1e6", TEXTS, texts, MILLION, SMALL,
        Side(of_columns(our("chi2")), numbers=lambda r: told([r])),
        {"scipy": Side(of_columns(scipy_chi2), "current", "scipy", lambda r: told([r])),
         "frouros": Side(of_columns(frouros_chi2, arrays_of), "frouros", "frouros", one_pair),
         "alibi-detect": Side(of_columns(alibi_chi2, arrays_of), "alibi_detect", "alibi-detect",
                              one_pair, close(1e-5))},
        COUNTED, COUNTED_IS, reason=BOUND),
    Row("Kolmogorov-Smirnov, 1e6", NUMBERS, numbers, MILLION, SMALL,
        Side(of_pairs(our("ks")), numbers=told),
        {"scipy": Side(of_pairs(scipy_ks), "current", "scipy", told),
         "evidently": Side(of_pairs(evidently_ks), "evidently", "evidently",
                           lambda p: {"p": [float(x) for x in p]}),
         "frouros": Side(of_pairs(frouros_ks), "frouros", "frouros", pairs_told),
         "alibi-detect": Side(of_pairs(alibi_ks), "alibi_detect", "alibi-detect", pairs_told,
                              close(1e-5))},
        Side(of_pairs(bare_sorts), numbers=lambda r: {}), "NumPy's sorts of both columns",
        reason=BOUND),
    Row("Wasserstein with its p-value, 2e3", "two columns of 2,000 numbers, 999 permutations",
        numbers, {"rows": 2_000}, {"rows": 300},
        Side(our_wasserstein, numbers=lambda r: {"statistic": [r[0].statistic * r[1]],
                                                 "p": [r[0].p_value]}),
        {"scipy": Side(scipy_wasserstein, "current", "scipy", lambda r: told([r])),
         "frouros": Side(frouros_wasserstein, "frouros", "frouros", one_pair)},
        agree=same_distance_and_p,
        reason="All sides deal the numbers out anew 999 times; that is nearly all there is to do."),
    Row("Page-Hinkley, 1e5", "a stream of 100,000 numbers", stream, {"rows": 100_000},
        {"rows": 5_000}, Side(our_alarm("PageHinkley", threshold=5.), numbers=places),
        {"river": Side(river_alarm("PageHinkley", threshold=5.), "current", "river", places)},
        agree=close(0)),
    Row("ADWIN, 1e5", "a stream of 100,000 numbers", stream, {"rows": 100_000}, {"rows": 5_000},
        Side(our_alarm("Adwin"), numbers=places),
        {"river": Side(river_alarm("ADWIN"), "current", "river", places)}, agree=close(0),
        reason="River's is compiled. Ours is Python, to be read, and rings at the same places."),
)
