"Retraining: continuing from the last model beside training anew, and learning film by film."

from parts import Row, Side, close

TITLE = "Retraining"
ABOUT = """Twelve genre tags for each film. In the first row theirs is our own other strategy:
what a stateful update saves, with its micro-F1 on the films of the next weeks beside it. In the
second theirs is River's logistic regression with the same steps of AdaGrad."""
HISTORY = 4_000


def weeks(folder, weeks, trees):
    "Nothing to write: the films come with the package."
    (folder / "size.txt").write_text(f"{weeks} {trees}")


def rows(folder, films):
    "Feature rows of films for a linear model, and their genres."
    import numpy as np
    from scipy import sparse
    from trending_now.catalogue import load_films
    from trending_now.retraining import linear_rows
    from trending_now.triggers import film_table
    table, labels = film_table(load_films().head(films))
    sparse.save_npz(folder / "rows.npz", sparse.csr_matrix(linear_rows(table, films)))
    np.save(folder / "labels.npy", labels)


# ------------------------------------------------------------ stateful beside stateless

def start(folder):
    "(a fitted model, the films that it knows, the weeks that come, the films after them)."
    from trending_now.catalogue import labels, load_films, replay_weeks
    from trending_now.genres import FilmFeatures, GenreBooster
    count, trees = map(int, (folder / "size.txt").read_text().split())
    films = load_films()
    past = films[films.arrived < "2012"].tail(HISTORY).reset_index(drop=True)
    coming = list(replay_weeks(films, "2012-01", count + 4))
    model = GenreBooster(FilmFeatures("v2").observe(past, labels(past)), trees=trees)
    return model.fit(past, labels(past)), past, coming[:count], coming[count:]


def updated(strategy, first, past, weeks):
    "The last model of a strategy that updates after each week."
    import numpy as np, pandas as pd
    model, rng = first, np.random.default_rng(7)
    for week in weeks:
        model = strategy.update(model, past, week, rng)
        past = pd.concat([past, week.films], ignore_index=True)
    return model


def strategy(name):
    def prepare(folder):
        import pandas as pd
        from trending_now import retraining
        first, past, weeks, after = start(folder)
        asked = pd.concat([week.films for week in after], ignore_index=True)
        return lambda: (updated(getattr(retraining, name)(), first, past, weeks), asked)
    return Side(prepare, numbers=quality, package="trending-now" if name == "Stateful" else "")


def quality(result):
    from trending_now.catalogue import labels
    from trending_now.retraining import micro
    model, films = result
    return {"micro-F1": micro(labels(films), model.predict_proba(films))}


def both_qualities(ours, theirs):
    return f"micro-F1 {theirs['micro-F1']:.3f}, ours {ours['micro-F1']:.3f}"


def about_as_good(ours, theirs):
    "Two models that nobody would tell apart on a few hundred films."
    gap = abs(ours["micro-F1"] - theirs["micro-F1"])
    return "" if gap < .05 else f"micro-F1 {ours['micro-F1']:.3f} beside {theirs['micro-F1']:.3f}"


# ------------------------------------------------------------ film by film

def streamed(make):
    def prepare(folder):
        import numpy as np
        from scipy import sparse
        from trending_now.retraining import test_then_learn
        X, y = sparse.load_npz(folder / "rows.npz"), np.load(folder / "labels.npy")
        return lambda: test_then_learn(make(X.shape[1]), X, y, 0, len(y), batch=1)
    return prepare


def our_learner(columns):
    from trending_now.retraining import OnlineLogistic
    return OnlineLogistic(columns)


def river_learner(columns):
    from trending_now.retraining import RiverTagger, river_logistic
    return RiverTagger(river_logistic)


def said(found): return {"probabilities": found.proba.ravel().tolist()}


ROWS = (
    Row("stateful beside stateless", "6 weeks of films after 4,000, 60 trees a genre", weeks,
        {"weeks": 6, "trees": 60}, {"weeks": 1, "trees": 5}, strategy("Stateful"),
        {"from scratch": strategy("Stateless")}, agree=about_as_good, beside=both_qualities),
    Row("film by film", "500 films, each predicted and then learnt", rows, {"films": 500},
        {"films": 60}, Side(streamed(our_learner), numbers=said),
        {"river": Side(streamed(river_learner), numbers=said, package="river")},
        agree=close(1e-7)),
)
