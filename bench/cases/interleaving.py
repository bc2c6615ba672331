"Interleaving: two rankings mixed into one list, many times."

from parts import Row, Side, close, within_noise

TITLE = "Interleaving"
ABOUT = """Lists of 20 items, 10 places. No maintained package interleaves rankings, so theirs
is a plain loop in Python, written from the papers: Radlinski et al. 2008 (team draft), Hofmann
et al. 2011 (probabilistic), Joachims 2003 (balanced), Schuth et al. 2014 (multileaving)."""
LENGTH, ITEMS, PLACES = 20, 40, 10


def rankings(folder, rows):
    "Pairs of rankings, a row each."
    import numpy as np
    rng = np.random.default_rng(7)
    both = [rng.permuted(np.tile(np.arange(ITEMS), (rows, 1)), axis=1)[:, :LENGTH] for _ in "abc"]
    np.savez(folder / "rankings.npz", a=both[0], b=both[1], c=both[2])


def read(folder):
    import numpy as np
    with np.load(folder / "rankings.npz") as stored: return dict(stored)


def as_lists(stored): return [stored[name].tolist() for name in "abc"]


# ------------------------------------------------------------ plain loops

def top(ranking, taken):
    "The best item that is not in the list yet."
    for item in ranking:
        if item not in taken: return item


def plain_team_draft(a, b, k, coins):
    "Radlinski, Kurup and Joachims 2008, algorithm 2: each round, a coin says who picks first."
    items, teams = [], []
    for coin in coins:
        for team in ((0, 1) if coin < .5 else (1, 0)):
            if len(items) < k:
                items.append(top((a, b)[team], items))
                teams.append(team)
    return items, teams


def plain_probabilistic(a, b, k, random, tau=3.):
    "Hofmann, Whiteson and de Rijke 2011, algorithm 1: softmax over ranks, renormalised each time."
    lists = [{item: rank ** -tau for rank, item in enumerate(ranking, 1)} for ranking in (a, b)]
    items, teams = [], []
    while len(items) < k:
        team = int(random() >= .5)
        items.append(drawn(lists[team], random))
        teams.append(team)
        for odds in lists: odds.pop(items[-1], None)
    return items, teams


def drawn(odds, random):
    "An item, each as likely as its odds."
    left = random() * sum(odds.values())
    for item, weight in odds.items():
        left -= weight
        if left < 0: return item
    return item


def plain_balanced(a, b, k, coin):
    "Joachims 2003: one coin, then the two lists by turns, without what is there."
    one, other = (a, b) if coin < .5 else (b, a)
    items, i, j = [], 0, 0
    while len(items) < k:
        if i <= j:
            if one[i] not in items: items.append(one[i])
            i += 1
        else:
            if other[j] not in items: items.append(other[j])
            j += 1
    return items


def plain_multileave(lists, k, shuffled):
    "Schuth et al. 2014, algorithm 1: each round, all rankers pick once, in a new order."
    items, teams = [], []
    while len(items) < k:
        for team in shuffled(len(lists)):
            if len(items) == k: break
            items.append(top(lists[team], items))
            teams.append(team)
    return items, teams


# ------------------------------------------------------------ sides

def many(folder):
    from trending_now.interleaving import team_draft_many
    stored = read(folder)
    return lambda: team_draft_many(stored["a"], stored["b"], PLACES, rng=7)


def plain_team(folder):
    "With the coins that ours tosses."
    import numpy as np
    stored = read(folder)
    a, b, _ = as_lists(stored)

    def work():
        coins = np.random.default_rng(7).random((len(a), PLACES // 2)).tolist()
        return [plain_team_draft(*both, PLACES, row) for *both, row in zip(a, b, coins)]
    return work


def of_many(result):
    "A few numbers that any other mix would change."
    import numpy as np
    items, teams = result
    places = np.arange(items.size).reshape(items.shape)
    return {"items": int((items * places).sum()), "teams": int((teams * places).sum())}


def of_rows(rows):
    import numpy as np
    return of_many([np.array(part) for part in zip(*rows)])


def one_by_one(name):
    "Ours, a call for each pair of rankings."
    def prepare(folder):
        from numpy.random import default_rng
        from trending_now import interleaving
        mix = getattr(interleaving, name)
        a, b, c = as_lists(read(folder))

        def work():
            rng = default_rng(7)
            if name == "multileave": return [mix(x, PLACES, rng) for x in zip(a, b, c)]
            return [mix(x, y, PLACES, rng) for x, y in zip(a, b)]
        return work
    return prepare


def plain_one_by_one(name):
    "The loops from the papers; balanced tosses the coins that ours tosses."
    def prepare(folder):
        import random
        from numpy.random import default_rng
        a, b, c = as_lists(read(folder))

        def work():
            rng, own = default_rng(7), random.Random(7)
            if name == "balanced":
                return [plain_balanced(x, y, PLACES, rng.random()) for x, y in zip(a, b)]
            if name == "probabilistic":
                return [plain_probabilistic(x, y, PLACES, own.random) for x, y in zip(a, b)]
            shuffled = lambda n: own.sample(range(n), n)
            return [plain_multileave(x, PLACES, shuffled) for x in zip(a, b, c)]
        return work
    return prepare


def weighted(mixed):
    "Each list as a number: a place counts more, the higher it is."
    pairs = [(x.items, x.teams) if hasattr(x, "items") else x for x in mixed]
    values = [sum(item / place for place, item in enumerate(items, 1)) for items, _ in pairs]
    return {"lists": values, "first teams": [int(teams[0] in (0, "a")) for _, teams in pairs]}


def exact(mixed):
    "All items in their places."
    return {"items": [int(item) for x in mixed for item in getattr(x, "items", x)]}


ONE = {"rows": 2_000}


def row(name, told, agree):
    theirs = Side(plain_one_by_one(name), numbers=told)
    return Row(f"{name}, 2e3", "2,000 lists, a call for each", rankings, ONE, {"rows": 500},
               Side(one_by_one(name), numbers=told), {"plain loop": theirs}, agree=agree,
               reason="Ours refuses lists that are none, and keeps for each list where it is from "
                      "and whose each item is; the loop does nothing but mix.")


ROWS = (
    Row("team draft, 1e5", "100,000 pairs of lists at once", rankings, {"rows": 100_000},
        {"rows": 500}, Side(many, numbers=of_many, package="trending-now"),
        {"plain loop": Side(plain_team, numbers=of_rows)}),
    row("balanced", exact, close(0)),
    row("probabilistic", weighted, within_noise("lists")),
    row("multileave", weighted, within_noise("lists")),
)
