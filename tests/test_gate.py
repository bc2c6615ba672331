"""The gate lets equals pass no more often than its level, and an approval needs a whole packet."""

from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from trending_now.catalogue import labels, load_films
from trending_now.genres.booster import seal
from trending_now.registry.gate import Gate, GateVerdict, compare_models
from trending_now.registry.packet import Packet, _plain_text, approve, model_card
from trending_now.registry.registry import Registry
from trending_now.registry.stages import RegistryError
from trending_now.settings import stream


def noisy(truth, share, rng):
    "Probabilities that say the opposite in a share of the tags."
    return np.where(rng.random(truth.shape) < share, 1 - truth, truth).astype(float)


@pytest.fixture(scope="module")
def recent():
    films = load_films().tail(800).reset_index(drop=True)
    return films, labels(films)


@pytest.fixture(scope="module")
def paired(recent):
    films, truth = recent
    rng = stream(7, "test gate")
    return compare_models(truth, noisy(truth, 0.1, rng), noisy(truth, 0.07, rng), films)


# ---------------------------------------------------------------- the comparison


def test_scores_are_those_of_scikit_learn(recent):
    films, truth = recent
    rng = stream(7, "scores")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.08, rng)
    table = compare_models(truth, old, new, films).table
    for row, average in ((0, "micro"), (1, "macro")):
        assert table.champion[row] == pytest.approx(f1_score(truth, old, average=average))
        assert table.challenger[row] == pytest.approx(f1_score(truth, new, average=average))
    none = films["cast"].map(len).to_numpy() == 0
    mine = table[(table.slice == "cast") & (table.value == "none")].iloc[0]
    assert mine.films == none.sum()
    assert mine.challenger == pytest.approx(f1_score(truth[none], new[none], average="micro"))


def test_the_interval_is_that_of_a_paired_bootstrap(recent):
    _, truth = recent
    rng = stream(7, "bootstrap")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.08, rng)

    def micro(at, tags):
        both = (truth[at] * tags[at]).sum()
        return 2 * both / (truth[at].sum() + tags[at].sum())

    def gain(at):
        return micro(at, new) - micro(at, old)

    drawn = [gain(rng.integers(0, len(truth), len(truth))) for _ in range(1000)]
    found = compare_models(truth, old, new)
    assert found.table.se[0] == pytest.approx(np.std(drawn), rel=0.1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.criterion.low == pytest.approx(low, abs=0.004)
    assert found.criterion.high == pytest.approx(high, abs=0.004)


def test_the_other_way_round_only_the_sign_changes(recent):
    films, truth = recent
    rng = stream(7, "mirror")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.08, rng)
    there, back = compare_models(truth, old, new, films), compare_models(truth, new, old, films)
    assert np.allclose(there.table.difference, -back.table.difference)
    assert np.allclose(there.table.low, -back.table.high)


def test_every_film_is_in_one_slice_of_each_kind(paired):
    slices = paired.table[paired.table.slice != "all"]
    assert set(slices.groupby("slice").films.sum()) == {800}


def test_a_seed_gives_the_same_table_again_and_so_does_none(recent):
    _, truth = recent
    rng = stream(7, "again")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.08, rng)
    one, two = (compare_models(truth, old, new, rng=3).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    one, two = (compare_models(truth, old, new).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert one.low[0] != compare_models(truth, old, new, rng=4).table.low[0]


def test_thresholds_may_differ_by_genre(recent):
    _, truth = recent
    flat = np.full(truth.shape, 0.4)
    one = compare_models(truth, flat, flat, threshold=[0.3] * 6 + [0.5] * 6).table
    tags = np.tile([1] * 6 + [0] * 6, (len(truth), 1))
    assert one.champion[0] == pytest.approx(f1_score(truth, tags, average="micro"))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"champion": np.zeros((5, 12))}, "expected two tables"),
        ({"challenger": np.full((800, 12), np.nan)}, "a probability is nan"),
        ({"challenger": np.full((800, 12), 1.2)}, "a probability is 1.2"),
        ({"films": load_films().head(3)}, "3 films for 800 rows"),
        ({"threshold": [0.3, 0.4]}, "thresholds have shape"),
        ({"level": 95}, "level = 95"),
        ({"n_boot": 1}, "n_boot = 1"),
        ({"rng": "seven"}, "rng = 'seven'"),
    ],
)
def test_what_does_not_fit_is_refused(recent, change, said):
    _, truth = recent
    given = {"labels": truth, "champion": truth * 1.0, "challenger": truth * 1.0} | change
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        compare_models(**given)


# ---------------------------------------------------------------- the gate


def test_exactly_equal_models_win_no_more_often_than_the_level(recent):
    _, truth = recent
    truth, rng = truth[:200], stream(7, "level")
    a, b = noisy(truth, 0.1, rng), noisy(truth, 0.1, rng)
    wins, runs = 0, 120
    for _ in range(runs):
        coin = rng.random((len(truth), 1)) < 0.5
        pair = np.where(coin, a, b), np.where(coin, b, a)
        wins += compare_models(truth, *pair, n_boot=200, rng=rng).criterion.low > 0
    assert wins <= stats.binom.ppf(0.999, runs, 0.025)


def test_a_real_gain_passes_and_its_reverse_does_not(paired, recent):
    films, truth = recent
    assert Gate().check(paired)
    rng = stream(7, "test gate")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.07, rng)
    back = Gate().check(compare_models(truth, new, old, films))
    assert not back and "no win" in back.reasons[1]


def test_the_same_tags_do_not_pass(recent):
    films, truth = recent
    verdict = Gate().check(compare_models(truth, truth * 0.9, truth * 0.8, films))
    assert not verdict.passed and "no difference" in verdict.reasons[1]


def test_a_win_has_to_be_larger_than_asked(paired):
    assert Gate(win=paired.criterion.low - 1e-9).check(paired)
    assert not Gate(win=paired.criterion.low).check(paired)


def test_a_lost_rare_genre_is_refused_though_the_whole_gains(recent):
    _, truth = recent
    rng = stream(7, "rare")
    old, new = noisy(truth, 0.08, rng), noisy(truth, 0.04, rng)
    rare = np.argsort(truth.sum(axis=0))[:4]
    old[:, rare], new[:, rare] = truth[:, rare], 0
    verdict = Gate().check(compare_models(truth, old, new))
    assert "better" in verdict.reasons[1] and "is not excluded" in verdict.reasons[2]
    assert not verdict


def test_a_harmed_slice_is_refused_and_named(recent):
    films, truth = recent
    rng = stream(7, "slice")
    old, new = noisy(truth, 0.1, rng), noisy(truth, 0.02, rng)
    none = films["cast"].map(len).to_numpy() == 0
    new[none] = noisy(truth[none], 0.3, rng)
    paired = compare_models(truth, old, new, films)
    verdict = Gate(margin=1.0).check(paired)
    assert "better" in verdict.reasons[1] and not verdict
    assert "harm beyond 0.05 in cast none" in verdict.reasons[3]
    assert Gate(margin=1.0, slice_margin=0.9).check(paired)
    allowed = Gate(margin=1.0, smallest_slice=int(none.sum()) + 1).check(paired)
    assert "cast none" not in allowed.reasons[3].split(";")[0]


def test_slices_are_judged_by_holm():
    films = [500, 500, *[100] * 8]
    z = np.array([-2.6, -2.0, -1.7, 0.5, 1.0, -1.0, 0.0, -2.4])
    table = pd.DataFrame(
        {"slice": ["all"] * 2 + ["kind"] * 8, "films": films,
         "value": ["micro_f1", "macro_f1", *"abcdefgh"],
         "champion": 0.5, "challenger": 0.5, "difference": [0.1, 0.1, *(z * 0.01 - 0.05)],
         "low": 0.05, "high": 0.2, "se": 0.01}
    )  # fmt: skip
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        knobs = {"level": level, "asks": "micro_f1"}
        paired = SimpleNamespace(table=table, criterion=(0.1, 0.05, 0.2), **knobs)
        harmed = multipletests(stats.norm.cdf(z), 1 - level, "holm")[0]
        reason = Gate().check(paired).reasons[3]
        for value, bad in zip("abcdefgh", harmed):
            assert (f"kind {value} " in reason) == bad


def test_few_films_are_refused_with_the_number_that_is_needed(recent):
    _, truth = recent
    truth, rng = truth[:99], stream(7, "few")
    paired = compare_models(truth, noisy(truth, 0.3, rng), noisy(truth, 0.01, rng))
    verdict = Gate().check(paired)
    assert not verdict and verdict.reasons[0] == "films: 99, of at least 100"
    assert Gate(min_films=99).check(paired)


def test_the_films_needed_give_the_power_that_was_asked_for(paired):
    gain, power = 0.01, 0.9
    n = paired.films_needed(gain, power)
    se = paired.table.se[0] * np.sqrt(800 / n)
    assert stats.norm.sf(stats.norm.ppf(0.975), gain / se) == pytest.approx(power, abs=0.001)
    for wrong in (0, -0.01, np.nan):
        with pytest.raises(ValueError, match="gain"):
            paired.films_needed(wrong)
    with pytest.raises(ValueError, match="power"):
        paired.films_needed(0.01, 80)


def test_a_verdict_is_true_or_false_in_an_if():
    assert GateVerdict(True, ()) and not GateVerdict(False, ())
    assert GateVerdict(False, ("why",))._repr_markdown_() == "**refused**\n\n- why"


@pytest.mark.parametrize(
    "name, value",
    [("win", np.nan), ("margin", -0.1), ("slice_margin", "x"), ("min_films", 0),
     ("smallest_slice", 1), ("smallest_slice", 60.5)],
)  # fmt: skip
def test_a_gate_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} ="):
        Gate(**{name: value})


# ---------------------------------------------------------------- the packet


def registered(root, versions=2):
    "A registry whose first version is the champion."
    registry = Registry.open(f"local:{root / 'registry'}")
    for k in range(versions):
        folder = root / f"model-{k}"
        folder.mkdir()
        (folder / "model.ubj").write_bytes(bytes([k]))
        seal(folder)
        registry.register(folder, {"cpu_seconds": 2.5 + k}, {"rule": "all", "rows": {}})
    registry.promote("v1", "Ada", "the first", over="")
    return registry


PASS = SimpleNamespace(action="pass", share=0.5, reasons=("clicks: no harm",))


def whole(registry, paired, version="v2"):
    "A packet that lacks nothing."
    parts = {"paired": paired, "verdict": Gate().check(paired), "agreement": 0.97}
    return Packet.of(registry, version, **parts, online=PASS, alerts=())


def test_the_registry_fills_what_it_knows(tmp_path, paired):
    packet = whole(registered(tmp_path), paired)
    assert (packet.version, packet.champion, packet.rollback) == ("v2", "v1", "v1")
    assert packet.cost == {"cpu_seconds": 3.5} and packet.lineage["rule"] == "all"
    assert packet.missing() == () and packet.against() == ()


def test_a_champion_that_does_not_verify_is_no_rollback_target(tmp_path, paired):
    registry = registered(tmp_path)
    (registry.get("v1").folder / "model.ubj").write_bytes(b"other")
    packet = whole(registry, paired)
    assert packet.missing() == ("rollback target",)
    with pytest.raises(RegistryError, match="v9"):
        Packet.of(registry, "v9")


@pytest.mark.parametrize(
    "field, name",
    [("paired", "comparison"), ("verdict", "the gate's verdict"), ("lineage", "lineage"),
     ("cost", "training cost"), ("agreement", "shadow agreement"), ("online", "online result"),
     ("alerts", "open alerts")],
)  # fmt: skip
def test_a_missing_part_is_named_everywhere_and_refused(tmp_path, paired, field, name):
    registry = registered(tmp_path)
    packet = replace(whole(registry, paired), **{field: None})
    assert packet.missing() == (name,)
    assert f"- missing: {name}" in packet.to_markdown()
    assert "missing:" in packet.to_html()
    with pytest.raises(RegistryError, match=f"lacks {name}"):
        approve(registry, packet, "Grace", "better")
    with pytest.raises(RegistryError, match="lacks"):
        approve(registry, packet, "Grace", "better", override="  ")
    assert registry.champion() == "v1"


def test_nothing_agreed_is_not_nothing_known():
    packet = Packet("v2", "v1", agreement=0.0, alerts=())
    assert not {"shadow agreement", "open alerts"} & set(packet.missing())
    assert "agrees with the champion on 0.0%" in packet.to_markdown()


def test_the_first_champion_needs_no_comparison(tmp_path):
    assert Packet("v1", lineage={"rule": "all"}, cost={"s": 1}, alerts=()).missing() == ()


def test_an_override_stays_in_the_history(tmp_path, paired):
    registry = registered(tmp_path)
    packet = replace(whole(registry, paired), agreement=None)
    assert approve(registry, packet, "Grace", "better", "the host is down") == "v2"
    event = registry.store.events()[-1]
    assert event.payload["override"] == "the host is down"
    said = registry.history().reason.iloc[-1]
    assert said == "better; without shadow agreement, because: the host is down"
    assert registry.history().by.iloc[-1] == "Grace"


def test_what_speaks_against_it_is_shown_first_and_noted(tmp_path, paired):
    registry = registered(tmp_path)
    halt = SimpleNamespace(action="halt", share=0.0, reasons=("clicks: harm",))
    packet = replace(
        whole(registry, paired), verdict=GateVerdict(False, ()), online=halt, alerts=("drift",)
    )
    objections = ("the gate refused it", "the trial ended with halt", "open alert: drift")
    assert packet.against() == objections and packet.missing() == ()
    text = packet.to_markdown()
    assert text.index("the gate refused it") < text.index("## Gate")
    approve(registry, packet, "Grace", "better")
    for objection in objections:
        assert f"in spite of: {objection}" in registry.history().reason.iloc[-1]


def test_a_version_that_a_rollback_took_out_says_so_and_needs_an_override(tmp_path, paired):
    registry = registered(tmp_path)
    approve(registry, whole(registry, paired), "Grace", "better")
    registry.rollback("watch", "clicks fell")
    packet = whole(registry, paired)
    assert packet.against() == ("a rollback took it out",)
    with pytest.raises(RegistryError, match="taken out by a rollback"):
        approve(registry, packet, "Grace", "better")
    approve(registry, packet, "Grace", "better", "the page was at fault")
    said = registry.history().reason.iloc[-1]
    assert said == "better; in spite of: a rollback took it out; because: the page was at fault"


@pytest.mark.parametrize(
    "text",
    ["__all__ fell", "_x_ y", "cpu_seconds", "- x", "+ x", "1. x", "12) x", "a &lt;b&gt;", "R&D",
     "5 < 6", "*x*", "-5 degrees", "2012-01-01", "`x`", "# x", "[x](y)", "a\\b"],
)  # fmt: skip
def test_markdown_shows_a_text_as_it_is(text):
    shown = MarkdownIt().render(f"- {_plain_text(text)}\n")
    page = Elements()
    page.feed(shown)
    assert page.found == ["ul", "li"]
    assert shown == f"<ul>\n<li>{escape(text, quote=False)}</li>\n</ul>\n"


def test_a_packet_about_another_champion_is_refused(tmp_path, paired):
    registry = registered(tmp_path, versions=3)
    late = whole(registry, paired, "v3")
    approve(registry, whole(registry, paired), "Grace", "better")
    with pytest.raises(RegistryError, match="compare with that one first"):
        approve(registry, late, "Ada", "better too")
    assert registry.champion() == "v2"


def test_an_approval_with_a_key_counts_once(tmp_path, paired):
    registry = registered(tmp_path)
    packet = whole(registry, paired)
    for _ in range(2):
        approve(registry, packet, "Grace", "better", key="week 9", at="2012-01-01")
    assert (registry.history().kind == "promote").sum() == 2


@pytest.mark.parametrize("who, why", [("", "better"), ("Grace", " "), (None, "better")])
def test_an_approval_has_a_name_and_a_reason(tmp_path, paired, who, why):
    registry = registered(tmp_path)
    with pytest.raises(ValueError, match="by|reason"):
        approve(registry, whole(registry, paired), who, why)


class Elements(HTMLParser):
    "The names of all elements, and all attributes."

    def __init__(self):
        super().__init__()
        self.found, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [name for name, _ in attrs]


EVIL = '"><script>alert(1)</script><img src=x onerror=a()>|[x](javascript:1)`\n# yes\n- done'


def test_hostile_texts_are_shown_as_texts(paired):
    table = paired.table.assign(value=EVIL)
    packet = Packet(
        EVIL, EVIL, replace(paired, table=table), GateVerdict(False, (EVIL,)),
        {EVIL: EVIL, "rule": {EVIL: EVIL}, "notes": [EVIL]}, {EVIL: EVIL}, 0.9,
        SimpleNamespace(action=EVIL, share=0.5, reasons=(EVIL,)), EVIL, (EVIL,),
    )  # fmt: skip
    for text in (packet.to_html(), packet._repr_html_()):
        page = Elements()
        page.feed(text)
        assert not {"script", "img", "a", "link", "iframe"} & set(page.found)
        assert set(page.attributes) <= {"lang", "charset", "name", "content", "class"}
    lines = packet.to_markdown().splitlines()
    assert "# yes" not in lines and "- done" not in lines
    assert not any("<script" in line.replace("\\<", "") for line in lines)
    assert not any("[x](" in line for line in lines)
    widths = {line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines
              if line.startswith("| ")}  # fmt: skip
    assert widths <= {3, 6}


def test_the_page_needs_nothing_else_and_follows_the_reader(tmp_path, paired):
    text = whole(registered(tmp_path), paired).to_html()
    assert text.startswith("<!doctype html>")
    assert not [word for word in ("http", "src=", "href=", "url(", "@import") if word in text]
    assert "width=device-width" in text and "prefers-color-scheme: dark" in text


def test_both_faces_have_the_same_sections(tmp_path, paired):
    packet = whole(registered(tmp_path), paired)
    titles = [line[3:] for line in packet.to_markdown().splitlines() if line.startswith("## ")]
    assert titles == ["Gate", "On the same films", "Shadow", "Online", "Trained on", "Cost",
                      "If it goes wrong", "Open alerts"]  # fmt: skip
    assert all(f"<h2>{title}</h2>" in packet.to_html() for title in titles)


def test_a_card_says_what_was_not_said(tmp_path, paired):
    registry = registered(tmp_path)
    card = model_card(registry.get("v2"), paired, limits=("No silent films.",))
    titles = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert titles == ["Intended use", "Training data", "Metrics", "Slices", "Limits", "Cost"]
    assert "- No silent films." in card and "not stated" not in card
    bare = replace(registry.get("v2"), metrics={}, lineage=None)
    assert model_card(bare, use="").count("not stated") == 6
