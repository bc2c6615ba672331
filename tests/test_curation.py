"""Curation: no look-ahead, lineages that notice every damage, samplers against references, bad
weeks, and a refit to the same bytes."""

import itertools, os, re, subprocess, sys
from dataclasses import replace
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from scipy.stats import binomtest, entropy, kstest
from unicodedata import normalize
from trending_now.curation import revisions
from trending_now.catalogue import COLUMNS, GENRES, LISTS, labels, load_films, plain_text
from trending_now.catalogue import replay_weeks, source_file, write_weeks
from trending_now.curation.labels import label_weeks, labelled_by
from trending_now.curation import AllHistory, LatestWindow, Lineage, LineageError, OTHER_GENRES
from trending_now.curation import KNOWN, Reading, RecentPlusSample, agreement, curate
from trending_now.curation import diverse_sample, quarantine, random_sample, read_week, row_hashes
from trending_now.curation import stratified_sample, suspicious, tracked, uncertainty
from trending_now.curation import uncertainty_sample, unusual, usual
from trending_now.genres import FilmFeatures, GenreBooster

ROOT = Path(__file__).parents[1]
FILMS = load_films()
SOME = FILMS.iloc[::12].reset_index(drop=True)
WINDOWS = st.one_of(
    st.builds(LatestWindow, st.integers(1, 60), st.integers(1, 12)),
    st.builds(AllHistory),
    st.builds(RecentPlusSample, st.integers(1, 30), st.integers(0, 300)),
)
MOMENTS = st.datetimes(
    pd.Timestamp("1938-01-01").to_pydatetime(), pd.Timestamp("2015-12-31").to_pydatetime()
).map(lambda t: pd.Timestamp(t).floor("s"))
quick = hypothesis_settings(max_examples=25, deadline=None)


def rng(seed=0):
    return np.random.default_rng(seed)


def sh(cwd, *args):
    subprocess.run(
        args,
        cwd=cwd,
        check=True,
        capture_output=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        timeout=600,
    )


def git(cwd, *args):
    sh(cwd, "git", "-c", "user.name=Cook", "-c", "user.email=cook@example.org", *args)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A project with DVC, a file in the revisions `one` and `two`, and a folder of weeks; `one`
    has a film of another runtime."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("a shop")
    git(root, "init", "-q")
    os.environ["DVC_NO_ANALYTICS"] = "1"
    dvc, some = Repo.init(str(root)), FILMS[FILMS.arrived < "2008-06-01"].tail(700)
    write_weeks(some, root / "data" / "weeks")
    for tag, minutes in (("one", 0), ("two", 3)):
        some.assign(
            runtime=np.where(np.arange(len(some)) == len(some) - 5, 90 + minutes, some.runtime)
        ).to_parquet(root / "data" / "films.parquet", index=False)
        dvc.add([str(root / "data" / "films.parquet"), str(root / "data" / "weeks")])
        git(root, "add", "-A"), git(root, "commit", "-q", "-m", tag), git(root, "tag", tag)
    return root


@pytest.fixture(scope="module")
def kept(shop):
    "Films and lineage of a window of revision `one`."
    films, source = tracked("data/films.parquet", rev="one", root=shop)
    return curate(films, LatestWindow(4), source=source, now="2008-06-01")


# Windows


@quick
@given(WINDOWS, MOMENTS)
def test_no_window_holds_a_film_that_had_not_arrived(window, now):
    chosen, lineage = curate(SOME, window, rng=rng(), now=now)
    assert (
        (chosen.arrived < now).all()
        and chosen.film_id.is_unique
        and chosen.arrived.is_monotonic_increasing
    )
    assert lineage.films == len(chosen) == len(lineage.rows)


@quick
@given(WINDOWS, MOMENTS)
def test_films_to_come_change_nothing(window, now):
    past = SOME[SOME.arrived < now]
    whole, cut = (curate(f, window, rng=rng(), now=now) for f in (SOME, past))
    assert whole[1].to_json() == replace(cut[1], commit=whole[1].commit).to_json() and whole[
        0
    ].equals(cut[0])


@quick
@given(WINDOWS, MOMENTS, st.integers(0, 99))
def test_a_lineage_gives_the_same_rows_back_after_a_trip_through_json(window, now, seed):
    chosen, lineage = curate(SOME.sample(600, random_state=seed), window, rng=rng(seed), now=now)
    again = Lineage.from_json(lineage.to_json())
    assert again == lineage
    pd.testing.assert_frame_equal(again.verify(SOME.sample(600, random_state=seed)).films, chosen)


@quick
@given(WINDOWS, MOMENTS)
def test_films_that_have_been_judged_are_chosen_without_judging_them_again(window, now):
    good = quarantine(SOME)[0]
    again, checked = (curate(good, window, rng=rng(), now=now, checked=c) for c in (False, True))
    assert again[1].to_json() == replace(checked[1], commit=again[1].commit).to_json()
    assert again[0].film_id.equals(checked[0].film_id)


def test_films_that_are_said_to_be_judged_are_taken_as_they_are():
    odd = SOME.head(50).assign(runtime=99_999.0)
    assert curate(odd, AllHistory())[1].films == 0
    assert curate(odd, AllHistory(), checked=True)[1].films == 50


def test_a_flood_to_come_does_not_change_todays_window():
    flood = FILMS.tail(50).sample(5000, replace=True, random_state=0)
    flood = flood.assign(film_id=[f"f{i}" for i in range(5000)])
    assert (
        curate(pd.concat([FILMS, flood]), LatestWindow(4), now="2012-01-01")[1].rows
        == curate(FILMS, LatestWindow(4), now="2012-01-01")[1].rows
    )


def test_old_films_are_drawn_with_equal_chances():
    films, window = FILMS.tail(300).reset_index(drop=True), RecentPlusSample(1, 20)
    old = films[films.arrived < window.start("2014-12-31")].film_id
    drawn = pd.concat([window.select(films, "2014-12-31", rng(k)).film_id for k in range(300)])
    counts = drawn[drawn.isin(old)].value_counts().reindex(old, fill_value=0)
    assert min(binomtest(int(c), 300, 20 / len(old)).pvalue for c in counts) > 1e-6


# Quarantine


def test_the_known_genres_are_those_of_the_source():
    import sqlite3

    with sqlite3.connect(source_file()) as db:
        text = pd.read_sql("SELECT Genre FROM omdb", db).Genre
    assert set(text.str.split(",").explode().str.strip().dropna()) - {""} == {
        *GENRES,
        *OTHER_GENRES,
    }


def test_a_week_of_50_000_films_is_held_and_the_rest_goes_on():
    junk = (
        FILMS.tail(100)
        .sample(50_000, replace=True, random_state=1)
        .assign(film_id=[f"j{i}" for i in range(50_000)], arrived=pd.Timestamp("2014-11-11"))
    )
    chosen, lineage = curate(pd.concat([FILMS, junk]), LatestWindow(4), now="2015-01-01")
    assert len(chosen) > 100 and not chosen.film_id.str.startswith("j").any()
    assert (
        any("50" in n and "held" in n for n in lineage.notes)
        and sum(lineage.quarantined.values()) > 50_000
    )
    assert any("no film in the week from 2014-11-01" in n for n in lineage.notes)
    lineage.verify(pd.concat([FILMS, junk]))


def test_50_000_repeats_of_known_films_cost_only_the_repeats():
    repeats = FILMS.tail(100).sample(50_000, replace=True, random_state=1)
    good, bad = quarantine(pd.concat([FILMS, repeats]))
    assert (
        good.film_id.tolist() == FILMS.film_id.tolist()
        and len(bad) == 50_000
        and (bad.reason == "duplicate film_id").all()
    )


def test_a_lone_week_of_50_000_films_is_held_too():
    junk = (
        FILMS.tail(1).sample(50_000, replace=True).assign(film_id=[f"j{i}" for i in range(50_000)])
    )
    assert len(quarantine(junk)[0]) == 0


@quick
@given(
    st.lists(
        st.sampled_from(["runtime", "label", "year", "title", "repeat", "fine"]),
        min_size=1,
        max_size=40,
    )
)
def test_each_bad_row_is_set_aside_once_and_no_good_one(kinds):
    films = FILMS.tail(len(kinds)).reset_index(drop=True).copy()
    k = np.array(kinds)
    films["runtime"] = films.runtime.where(k != "runtime", 5000)
    films["genres"] = [["Dramma"] if a == "label" else g for a, g in zip(k, films.genres)]
    films["year"] = films.year.where(k != "year", 99999)
    films["title"] = films.title.where(k != "title", "  ")
    films = pd.concat([films, films[k == "repeat"]], ignore_index=True)
    good, bad = quarantine(films)
    broken = np.isin(k, ["runtime", "label", "year", "title"])
    assert good.film_id.tolist() == films.film_id[: len(k)][~broken].tolist()
    assert len(bad) == broken.sum() + (k == "repeat").sum() and (bad.reason.str.len() > 0).all()
    assert len(quarantine(good)[1]) == 0


def test_wrong_types_are_set_aside_and_do_not_crash():
    odd = (
        FILMS.tail(5)
        .reset_index(drop=True)
        .astype({"runtime": object, "year": object, "title": object, "film_id": object})
    )
    odd.loc[0, "runtime"], odd.loc[1, "year"], odd.loc[2, "title"], odd.loc[3, "film_id"] = (
        "long",
        "soon",
        None,
        None,
    )
    odd["arrived"] = ["2014-12-01"] * 4 + ["some day"]
    good, bad = quarantine(odd)
    assert len(good) == 0 and bad.reason.tolist() == [
        "impossible runtime 'long' (minutes from 1 to 1000)",
        "impossible year 'soon' (a whole number from 1880 to 2100)",
        "no title",
        "no film_id",
        "impossible arrived 'some day' (a date like 2012-05-30, not before its year)",
    ]
    assert bad.arrived.tolist() == odd.arrived.tolist()


def test_of_two_rows_for_a_film_the_one_that_arrived_first_is_curated_and_verified():
    late = SOME.tail(5).assign(arrived=lambda d: d.arrived + pd.Timedelta(days=9), runtime=77.0)
    both = pd.concat([late, SOME])
    chosen, lineage = curate(both, AllHistory(), now="2015-06-01")
    for films in (chosen, lineage.verify(both).films):
        assert row_hashes(films).tolist() == row_hashes(SOME).tolist()
    assert lineage.quarantined == {"duplicate film_id": 5}


FEW = FILMS.iloc[9000:9040].reset_index(drop=True)


@pytest.mark.parametrize("column", LISTS)
def test_a_list_given_as_text_is_set_aside_with_the_reason(column):
    good, bad = quarantine(FEW.assign(**{column: FEW[column].str[0]}))
    given = FEW[column].str[0].notna() & FEW.genres.str[0].notna()
    assert bad.film_id.tolist() == FEW.film_id[given].tolist()
    assert bad.reason.str.contains(f"impossible {column} '.*' .a list of texts").all()
    assert len(good) + len(bad) == len(FEW)


def test_genres_given_as_text_are_named_in_the_lineage():
    chosen, lineage = curate(FEW.assign(genres="Drama, Comedy"), AllHistory())
    assert len(chosen) == 0 and lineage.quarantined == {"impossible genres": 40}


def test_arrival_dates_in_two_spellings_are_all_read():
    days = [str(day) if i % 2 else str(day.date()) for i, day in enumerate(FEW.arrived)]
    aware = [pd.Timestamp(day, tz="Asia/Tokyo") for day in FEW.arrived + pd.Timedelta(hours=9)]
    for arrived in (days, aware, FEW.arrived.dt.date):
        films = FEW.assign(arrived=arrived)
        good, bad = quarantine(films)
        assert len(bad) == 0 and (good.arrived == FEW.arrived).all()
        chosen, lineage = curate(films, AllHistory())
        assert (row_hashes(chosen) == row_hashes(FEW)).all() and lineage.verify(films)


JUNK = st.sampled_from(
    [None, np.nan, pd.NA, pd.NaT, np.inf, -np.inf, -1, 0, 7, 500, 1e20, 2.5, True, "", " ", "n/a",
     "7", "Drama", "Drama, Comedy", "2012-01-01", "[1]", "\ud800", b"x", pd.Timestamp("2012"),
     np.datetime64("2012-01-01"), (), [], ["Drama"], ("Comedy", "Drama"), [None], ["Drama", 7],
     [""], ["Drama", "Horor"], np.array(["Drama"]), np.array(["Drama", "Comedy"]), {"a": 1},
     {"Drama"}, object]
)  # fmt: skip


@quick
@given(st.lists(st.tuples(st.sampled_from(COLUMNS), st.integers(0, 39), JUNK), max_size=30))
def test_a_model_can_learn_from_every_row_called_good_and_its_labels_are_those_written(damage):
    films = FEW.astype(object)
    for column, row, value in damage:
        films.at[row, column] = value
    good, bad = quarantine(films)
    assert len(good) + len(bad) == len(films) and (bad.reason != "").all()
    written = dict(zip(films.film_id.map(plain_text), films.genres))
    marks = [[genre in written[film.film_id] for genre in GENRES] for film in good.itertuples()]
    y = labels(good)
    assert (y == marks).all() and y.any(axis=1).all()
    GenreBooster(trees=1).fit(good, y).predict_proba(good)
    assert len(quarantine(good)[1]) == 0
    lineage = curate(films, AllHistory(), now="2020-01-01")[1]
    GenreBooster(trees=1).fit(Lineage.from_json(lineage.to_json()).verify(films).films, y)


@pytest.mark.parametrize(
    "column, value",
    [
        ("critic_score", np.inf),
        ("critic_score", "n/a"),
        ("critic_score", 500),
        ("critic_count", -1),
        ("critic_count", 1e20),
        ("cast", "Tom Hanks"),
        ("cast", ["Tom", None]),
        ("studio", ["Pixar"]),
        ("year", 2011.5),
        ("title", "\ud800"),
    ],
)
def test_a_value_that_a_model_cannot_use_is_set_aside_by_name(column, value):
    films = FEW.astype({column: object})
    films.at[3, column] = value
    good, bad = quarantine(films)
    assert len(good) == 39 and bad.reason.str.startswith(f"impossible {column}").all()


def test_what_is_not_known_is_read_as_nothing():
    films = FEW.astype({"studio": object})
    for row, column in enumerate(("cast", "countries", "studio", "runtime", "critic_count")):
        films[column] = films[column].where(films.index != row, None)
    good, bad = quarantine(films)
    assert len(bad) == 0 and good["cast"][0] == good.countries[1] == [] and good.studio[2] == ""
    assert np.isnan(good.runtime[3]) and good.critic_count[4] == 0
    assert (row_hashes(films) == row_hashes(good)).all()


def test_a_service_week_of_no_month_is_refused():
    with pytest.raises(ValueError, match="months_per_week = 0"):
        quarantine(FEW, months_per_week=0)


# Whole weeks

CLOCKS = {"a month a week": ("2006-01", 108, 1), "three months a week": ("1989-01", 104, 3)}


@pytest.fixture(scope="module")
def makers():
    return FilmFeatures("v2").observe(FILMS, labels(FILMS))


@pytest.fixture(scope="module", params=CLOCKS)
def clock(request, makers):
    "The films of the weeks of a clock, and their readings; 24 weeks come before the first judged."
    weeks = [week.films for week in replay_weeks(FILMS, *CLOCKS[request.param])]
    return weeks, [read_week(films, makers) for films in weeks]


def flooded(week, rng):
    known = FILMS[FILMS.arrived < week.arrived.min()]
    horror = known[known.genres.map(lambda genres: "Horror" in genres)]
    more = horror.sample(900 - len(week), replace=True, random_state=rng)
    ids = [f"new-{k}" for k in range(len(more))]
    return pd.concat([week, more.assign(film_id=ids, arrived=week.arrived.min())])


def emptied(week, rng):
    return week.assign(
        cast=[[]] * len(week), directors=[[]] * len(week), critic_score=np.nan, critic_count=0
    )


def shuffled(week, rng):
    return week.assign(genres=week.genres.sample(frac=1, random_state=rng).to_list())


def of_other_films(week, rng):
    return week.assign(genres=FILMS.genres.sample(len(week), random_state=rng).to_list())


def invented(week, rng):
    "Makers whom nobody has heard of."
    return week.assign(
        **{
            role: [[f"{role} {k}"] * (names != []) for k, names in enumerate(week[role])]
            for role in ("cast", "directors", "writers")
        }
    )


@pytest.mark.parametrize(
    "damage, what, least",
    [
        (flooded, "films", 1),
        (emptied, "critic_score", 1),
        (invented, "known makers", 1),
        (shuffled, "agreement", 0.9),
        (of_other_films, "agreement", 0.9),
    ],
)
def test_a_damaged_week_passes_row_by_row_and_is_found_as_a_whole(
    damage, what, least, clock, makers
):
    weeks, readings = clock
    chance, found = rng(5), []
    for k in chance.choice(np.arange(24, len(weeks)), 30, replace=False):
        bad = damage(weeks[k], chance)
        assert len(quarantine(bad)[1]) == 0
        why = unusual(read_week(bad, makers), readings[:k])
        found.append(what in [suspicion.what for suspicion in why])
    assert np.mean(found) >= least


def test_real_weeks_are_seldom_held(clock):
    readings = clock[1]
    held = sum(bool(unusual(readings[k], readings[:k])) for k in range(24, len(readings)))
    assert binomtest(held, len(readings) - 24, 0.02, "greater").pvalue > 0.2


LIKELY = dict(zip(KNOWN, (0.9, 0.97, 0.7, 0.8, 0.95, 0.97, 0.4, 0.97, 0.85)))
LIKELY |= dict(zip(GENRES, labels(FILMS).mean(axis=0)))


def made_up(rng):
    "A reading of a week whose number of films, shares and agreement vary more than by chance."
    films = int(rng.negative_binomial(12, 12 / (12 + 60)))
    having = {
        name: int(rng.binomial(films, rng.beta(60 * p, 60 * (1 - p)))) for name, p in LIKELY.items()
    }
    return Reading(films, having, rng.normal(2, 4.5 / max(1, having["known makers"]) ** 0.5))


@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_no_more_good_weeks_are_held_than_alpha_allows(alpha):
    chance, trials = rng(1), 500
    held = 0
    for _ in range(trials):
        *past, now = [made_up(chance) for _ in range(25)]
        held += bool(unusual(now, past, alpha))
    assert binomtest(held, trials, alpha, "greater").pvalue > 0.01
    assert held > 0


def test_one_bad_week_that_slipped_in_does_not_hide_the_next(clock, makers):
    weeks, readings = clock
    slipped = read_week(flooded(weeks[-9], rng()), makers)
    past = [*readings[-20:-9], slipped, *readings[-8:-1]]
    why = unusual(read_week(flooded(weeks[-1], rng()), makers), past)
    assert {"films", "genres"} <= {suspicion.what for suspicion in why}
    assert "900 films, usually" in str(why[0]) and "Horror stands out" in str(why[-1])


def test_only_the_latest_weeks_are_compared_with(clock):
    readings = clock[1]
    other = [Reading(7, dict.fromkeys([*KNOWN, *GENRES], 0), -5.0)] * 30
    assert unusual(readings[-1], [*other, *readings[-25:-1]]) == unusual(
        readings[-1], readings[-25:-1]
    )


def test_a_week_is_judged_from_tables_as_from_readings_and_whatever_comes_later(makers):
    *past, week = [week.films for week in replay_weeks(FILMS, "2010-01", 13)]
    known = FILMS[FILMS.arrived < "2011"]
    early, bad = FilmFeatures("v2").observe(known, labels(known)), shuffled(week, rng())
    why = suspicious(bad, past, makers)
    assert [s.what for s in why] == ["agreement"] and why == suspicious(bad, past, early)
    assert suspicious(week, past, makers) == [] == suspicious(week, past, early)
    assert unusual(read_week(bad, makers), [read_week(films, makers) for films in past]) == why


def test_weeks_without_films_are_held_and_harm_no_comparison(makers):
    *past, week = [week.films for week in replay_weeks(FILMS, "2010-01", 13)]
    empty = week.head(0)
    assert [s.what for s in suspicious(empty, past, makers)] == ["films"]
    assert suspicious(week, [*past, empty], makers) == []


def test_a_week_whose_makers_are_all_new_is_held_and_an_empty_record_judges_the_rest(makers):
    *past, week = [week.films for week in replay_weeks(FILMS, "2010-01", 13)]
    assert [s.what for s in suspicious(invented(week, 0), past, makers)] == ["known makers"]
    nobody = FilmFeatures("v2")
    assert suspicious(week, past, nobody) == []
    assert suspicious(emptied(week, 0), past, nobody)[0].what == "directors"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(batch=FEW.assign(genres="Drama")), "bad values in {'genres': 40}"),
        (dict(batch=FEW.assign(arrived=None)), "bad values in {'arrived': 40}"),
        (dict(batch=FEW.drop(columns="cast")), "no column cast"),
        (dict(batch=None), "a week is NoneType"),
        (dict(past_weeks=FEW), "past_weeks is one table"),
        (dict(past_weeks=[FEW] * 7), "7 past weeks with films: expected at least 8"),
        (dict(past_weeks=[FEW.head(0)] * 9), "0 past weeks with films"),
        (dict(past_weeks=[pd.concat([FEW, FEW])] * 9), "bad values in {'film_id': 40}"),
        (dict(features=FilmFeatures("v1")), "expected FilmFeatures('v2') or 'v3'"),
        (dict(alpha=0), "alpha = 0"),
        (dict(recent=7), "recent = 7"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(wrong, message):
    right = dict(batch=FEW, past_weeks=[FEW] * 9, features=FilmFeatures("v2"))
    with pytest.raises(ValueError, match=re.escape(message)):
        suspicious(**right | wrong)


def test_the_spread_of_past_weeks_is_that_of_the_textbook():
    values, noise = rng().normal(3, 2, 400), np.full(400, 0.5)
    before = usual(values, noise)
    clipped = np.clip(values, 3 - 6.2, 3 + 6.2)
    assert before.centre == pytest.approx(clipped.mean(), abs=0.01)
    assert before.spread == pytest.approx(clipped.std(ddof=1) / 0.5, rel=0.01)
    assert usual([1.0] * 8, [1.0] * 8).spread == 1


def test_agreement_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match="labels .2, 2. beside evidence .2, 3."):
        agreement(np.eye(2), np.ones((2, 3)))


def test_windows_take_moments_of_any_kind_and_refuse_numbers():
    aware = pd.Timestamp("2012-03-01 09:00", tz="Asia/Tokyo")
    for window in (LatestWindow(4), AllHistory(), RecentPlusSample(4, 9)):
        chosen = window.select(FILMS, "2012-03-01", 7)
        assert window.select(FILMS, aware, 7).equals(chosen)
        in_utc = FILMS.assign(arrived=FILMS.arrived.dt.tz_localize("UTC"))
        assert window.select(in_utc, aware, 7).film_id.tolist() == chosen.film_id.tolist()
        curated = curate(in_utc, window, rng=7, now=aware)[0]
        assert (row_hashes(curated) == row_hashes(chosen)).all()
    with pytest.raises(ValueError, match="now = 20120101"):
        LatestWindow(1).start(20120101)


# Lineage


def other_types(films):
    "The same films in types that other programs write."
    yield films.convert_dtypes()
    yield films.convert_dtypes(dtype_backend="pyarrow")
    yield films.astype(object)
    yield films.assign(film_id=films.film_id.astype(int))
    yield films.assign(film_id=films.film_id.astype(float), critic_count=films.critic_count + 0.0)
    yield films.assign(year=films.year.astype(str), runtime=films.runtime.astype(object))
    yield films.assign(studio=films.studio.astype("category"))


@pytest.mark.parametrize("kind", range(7))
def test_a_receipt_does_not_depend_on_the_types_of_the_columns(kind):
    few = FEW.assign(runtime=FEW.runtime.where(FEW.index != 2))
    films = list(other_types(few))[kind]
    assert (row_hashes(films) == row_hashes(few)).all()
    chosen, lineage = curate(films, AllHistory())
    kept = Lineage.from_json(lineage.to_json())
    assert kept == lineage and lineage.rows == curate(few, AllHistory())[1].rows
    assert kept.verify(films).films.equals(chosen) and kept.verify(few)
    GenreBooster(trees=1).fit(chosen, labels(chosen))


def test_a_revision_of_the_normal_form_alone_is_no_change():
    named = FEW.assign(title="Amélie", directors=[["Agnès Varda"]] * len(FEW))
    apart = named.assign(
        title=normalize("NFD", "Amélie"), directors=[[normalize("NFD", "Agnès Varda")]] * len(FEW)
    )
    assert apart.title[0] != named.title[0]
    assert (row_hashes(apart) == row_hashes(named)).all()
    assert curate(named, AllHistory())[1].verify(apart).films.title.tolist() == ["Amélie"] * 40


def test_an_empty_week_is_noted_only_where_no_film_is():
    one = FEW.tail(1).assign(year=2012, arrived=pd.Timestamp("2012-05-30"))
    assert curate(one, LatestWindow(1), now="2012-05-31")[1].notes == ()
    assert curate(one, LatestWindow(2), now="2012-05-31")[1].notes == (
        "no film in the week from 2012-03-31",
    )


def test_a_truncated_file_of_several_is_named(tmp_path):
    write_weeks(FILMS[FILMS.arrived < "2008-04-01"].tail(400), tmp_path)
    films, source = tracked(".", root=tmp_path)
    _, lineage = curate(films, LatestWindow(2), now="2008-04-01", source=source)
    path = tmp_path / "week-0001.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LineageError, match="week-0001.parquet cannot be read"):
        lineage.verify(root=tmp_path)


def test_lists_written_as_text_into_parquet_are_read_as_load_films_reads_them(tmp_path):
    texts = {column: FEW[column].str.join(", ") for column in LISTS}
    FEW.assign(**texts).to_parquet(tmp_path / "films.parquet")
    films, _ = tracked("films.parquet", root=tmp_path)
    whole = load_films(tmp_path / "films.parquet")
    assert curate(films, AllHistory())[0].film_id.tolist() == whole.film_id.tolist()
    assert (labels(quarantine(films)[0]) == labels(whole)).all()


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_film_outside_the_window_with_other_genres_fails_the_receipt(version):
    past = FILMS[FILMS.arrived < "2008-06-01"].tail(900)
    features = FilmFeatures(version).observe(past, labels(past))
    chosen, lineage = curate(past, LatestWindow(4), now="2008-06-01", features=features)
    again = Lineage.from_json(lineage.to_json()).verify(past)
    assert again.features.fingerprint() == features.fingerprint()
    assert (again.features.transform(chosen) != features.transform(chosen)).nnz == 0
    outside = past.film_id.iloc[:300]
    other = past.assign(genres=past.genres.where(~past.film_id.isin(outside), [["Horror"]] * 900))
    assert curate(other, LatestWindow(4), now="2008-06-01")[1].rows == lineage.rows
    for damaged in (other, past[~past.film_id.isin(outside)]):
        with pytest.raises(LineageError, match="the features remember something else"):
            lineage.verify(damaged)


def test_features_that_knew_nothing_before_the_fit_need_nothing_but_its_rows():
    past = FILMS[FILMS.arrived < "2008-06-01"].tail(900)
    features = FilmFeatures("v3")
    chosen, lineage = curate(past, LatestWindow(4), now="2008-06-01", features=features)
    assert not len(features.seen) and lineage.features["films"] == len(chosen)
    assert len(lineage.verify(past.tail(len(chosen) + 40)).features.seen) == len(chosen)


def test_films_to_come_are_not_in_the_memory_that_is_made_again():
    past = FILMS[FILMS.arrived < "2008-06-01"]
    features = FilmFeatures("v2").observe(past, labels(past))
    _, lineage = curate(FILMS, LatestWindow(4), now="2008-06-01", features=features)
    assert lineage.verify(FILMS).features.fingerprint() == features.fingerprint()


def test_a_missing_column_is_named(tmp_path):
    _, lineage = curate(FEW, AllHistory())
    for column in ("studio", "film_id", "cast"):
        for check in (lineage.verify, row_hashes, quarantine):
            with pytest.raises(ValueError, match=f"no column {column}: expected the Films record"):
                check(FEW.drop(columns=column))
    FEW.drop(columns="cast").to_parquet(tmp_path / "films.parquet")
    with pytest.raises(LineageError, match="no column cast"):
        lineage.verify("films.parquet", root=tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"window": {"kind": "NextWindow", "weeks": 4}},
        {"window": {"weeks": 4}},
        {"window": {"kind": "LatestWindow", "weeks": 4, "days": 1}},
        {"window": {"kind": "LatestWindow"}},
        {"sampler": {"name": "best_sample", "n": 9}},
        {"sampler": {"name": "random_sample"}},
        {"seed": {"bit_generator": "Dice"}},
        {"seed": {"bit_generator": "PCG64"}},
        {"now": "soon"},
    ],
)
def test_a_rule_that_this_release_does_not_know_is_reported(other):
    whole = FILMS[FILMS.arrived < "2008-06-01"].tail(300)
    _, lineage = curate(whole, RecentPlusSample(2, 100), rng=1, now="2008-06-01")
    with pytest.raises(LineageError, match="the rule cannot be applied again: .+"):
        Lineage.from_json(replace(lineage, **other).to_json()).verify(whole)


def test_a_lineage_that_lacks_a_needed_entry_is_refused():
    for text in ('{"rule": "", "rows": {}, "rows_sha256": ""}', "[]", "7"):
        with pytest.raises(ValueError, match="not a lineage: expected the keys"):
            Lineage.from_json(text)


def test_md5s_are_those_of_dvc(shop):
    for name in ("data/films.parquet", "data/weeks"):
        recorded = (shop / f"{name}.dvc").read_text()
        assert (
            tracked(name, root=shop)[1]["md5"] in recorded
            and tracked(name, rev="two", root=shop)[1]["md5"] in recorded
        )


def test_md5s_are_those_that_dvc_repro_recorded(tmp_path):
    lock = (ROOT / "dvc.lock").read_text()
    FILMS.to_parquet(tmp_path / "films.parquet", index=False)
    write_weeks(load_films(tmp_path / "films.parquet"), tmp_path / "weeks", "1995-01", 3)
    for name in ("films.parquet", "weeks"):
        assert f"md5: {tracked(name, root=tmp_path)[1]['md5']}\n" in lock


def test_a_changed_row_is_named(kept):
    films, lineage = kept
    with pytest.raises(LineageError, match="1 of .* rows have changed: " + films.film_id.iloc[3]):
        lineage.verify(films.assign(critic_count=films.critic_count + (np.arange(len(films)) == 3)))


@pytest.mark.parametrize("column", [c for c in FILMS.columns if c != "film_id"])
def test_a_change_in_any_column_is_noticed(kept, column):
    films, lineage = kept
    other = films.copy()
    i = other.index[-1]
    value = other.at[i, column]
    if isinstance(value, list):
        other.at[i, column] = value + ["Comedy"]
    elif column == "arrived":
        other.at[i, column] = value - pd.Timedelta(days=1)
    elif isinstance(value, str):
        other.at[i, column] = value + "!"
    else:
        other.at[i, column] = 55 if np.isnan(value) else value + 1
    with pytest.raises(LineageError, match="changed"):
        lineage.verify(other)


def test_another_revision_is_noticed(kept, shop):
    _, lineage = kept
    with pytest.raises(LineageError, match=f"expected md5 {lineage.source['md5']}, found"):
        replace(lineage, source={**lineage.source, "rev": None}).verify(root=shop)
    lineage.verify(root=shop)


def test_another_revision_is_noticed_where_the_rows_are_the_same(shop):
    films, source = tracked("data/films.parquet", rev="one", root=shop)
    _, lineage = curate(
        films.head(400), AllHistory(), now="2008-01-01", source={**source, "rev": None}
    )
    with pytest.raises(LineageError) as e:
        replace(lineage, window=None).verify(root=shop)
    assert len(e.value.problems) == 1 and "another revision" in e.value.problems[0]


def test_a_branch_that_moves_does_not_move_the_lineage(shop):
    _, source = tracked("data/films.parquet", rev="HEAD~1", root=shop)
    assert (
        source["rev"]
        == subprocess.run(
            ["git", "rev-parse", "one"], cwd=shop, capture_output=True, text=True
        ).stdout.strip()
    )


def test_a_missing_file_is_named(tmp_path):
    write_weeks(FILMS[FILMS.arrived < "2008-04-01"].tail(400), tmp_path)
    films, source = tracked(".", root=tmp_path)
    _, lineage = curate(films, LatestWindow(2), now="2008-04-01", source=source)
    assert lineage.verify(root=tmp_path)
    (tmp_path / "week-0001.parquet").unlink()
    with pytest.raises(LineageError, match="week-0001.parquet is missing"):
        lineage.verify(root=tmp_path)


def test_a_folder_that_grows_keeps_its_lineages(tmp_path):
    write_weeks(FILMS[FILMS.arrived < "2008-04-01"].tail(400), tmp_path)
    films, source = tracked(".", root=tmp_path)
    chosen, lineage = curate(films, LatestWindow(2), now="2008-04-01", source=source)
    FILMS[FILMS.arrived >= "2008-04-01"].head(60).to_parquet(tmp_path / "week-0003.parquet")
    assert lineage.verify(root=tmp_path).films.equals(chosen)


def test_a_changed_rule_or_another_draw_is_noticed(kept):
    films, lineage = kept
    whole = FILMS[FILMS.arrived < "2008-06-01"].tail(700)
    _, drawn = curate(whole, RecentPlusSample(2, 100), rng=rng(1), now="2008-06-01")
    _, other = curate(whole, RecentPlusSample(2, 100), rng=rng(2), now="2008-06-01")
    assert drawn.verify(whole)
    for bad in (
        replace(drawn, seed=other.seed),
        replace(drawn, window={**drawn.window, "sample": 90}),
        replace(drawn, now="2008-05-01T00:00:00"),
        replace(drawn, seed=None),
    ):
        with pytest.raises(LineageError, match="the rule"):
            bad.verify(whole)


def test_a_changed_list_of_rows_is_noticed(kept):
    films, lineage = kept
    rows = dict(list(lineage.rows.items())[1:])
    with pytest.raises(LineageError, match="the lineage itself was changed"):
        replace(lineage, rows=rows, films=len(rows)).verify(films)


@pytest.mark.parametrize(
    "sampler",
    [
        partial(random_sample, n=30),
        partial(stratified_sample, n=30),
        lambda f, r: uncertainty_sample(rng(5).random((len(f), 12)), 30),
        lambda f, rng: diverse_sample(labels(f), 30, rng=rng),
    ],
)
def test_sampled_sets_are_found_again(sampler):
    chosen, lineage = curate(FILMS, LatestWindow(8), sampler, rng(3), now="2010-01-01")
    assert len(chosen) == 30 and Lineage.from_json(lineage.to_json()).verify(FILMS).films.equals(
        chosen
    )


def test_without_dvc_git_and_the_cache_are_enough(shop, kept, monkeypatch):
    with_dvc = [tracked(p, rev="one", root=shop) for p in ("data/films.parquet", "data/weeks")]
    monkeypatch.setattr(revisions, "find_spec", lambda name: None)
    for (films, source), path in zip(with_dvc, ("data/films.parquet", "data/weeks")):
        by_hand, found = tracked(path, rev="one", root=shop)
        assert found == source
        pd.testing.assert_frame_equal(by_hand, films)
    assert kept[1].verify(root=shop)
    with pytest.raises(FileNotFoundError, match="nothing.parquet is missing at revision"):
        tracked("data/nothing.parquet", rev="one", root=shop)


def test_a_file_that_dvc_lock_names_is_read_by_hand(tmp_path):
    git(tmp_path, "init", "-q")
    data = FILMS.tail(20)
    data.to_parquet(tmp_path / "films.parquet", index=False)
    source = tracked("films.parquet", root=tmp_path)[1]
    cache = tmp_path / ".dvc/cache/files/md5" / source["md5"][:2]
    cache.mkdir(parents=True)
    (tmp_path / "films.parquet").rename(cache / source["md5"][2:])
    (tmp_path / "dvc.lock").write_text(
        (ROOT / "dvc.lock").read_text().replace("f137f464d36b563979c4e516a8b9d45b", source["md5"])
    )
    git(tmp_path, "add", "dvc.lock"), git(tmp_path, "commit", "-q", "-m", "x")
    assert (
        len(revisions._frame(revisions._by_hand(tmp_path, "data/films.parquet", "HEAD")[1])) == 20
    )
    (cache / source["md5"][2:]).unlink()
    with pytest.raises(FileNotFoundError, match="dvc pull"):
        revisions._by_hand(tmp_path, "data/films.parquet", "HEAD")


@pytest.mark.parametrize("features", ["v1", "v2"])
def test_a_refit_from_the_lineage_in_another_process_gives_the_same_bytes(
    tmp_path, kept, shop, features
):
    films, lineage = kept
    (tmp_path / "lineage.json").write_text(lineage.to_json())
    first = (
        GenreBooster(features, trees=5, threads=1).fit(films, labels(films)).model.save_raw("ubj")
    )
    script = (
        "import sys, pathlib; from trending_now.curation import Lineage; from trending_now.genres "
        "import GenreBooster; from trending_now.catalogue import labels\n"
        "lineage = Lineage.from_json(pathlib.Path(sys.argv[1]).read_text())\n"
        "films = lineage.verify(root=sys.argv[2]).films\n"
        f"sys.stdout.buffer.write(GenreBooster('{features}', trees=5, threads=1).fit(films, "
        f"labels(films)).model.save_raw('ubj'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "lineage.json", shop],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == bytes(first), done.stderr.decode()


# Samplers


@quick
@given(st.integers(1, 6), st.integers(0, 999))
def test_doubt_is_what_the_definitions_say_of_all_sets_of_tags(k, seed):
    p = rng(seed).random(k)
    p[rng(seed + 1).random(k) < 0.2] = 0.5
    sets = np.sort([np.prod(np.where(t, p, 1 - p)) for t in itertools.product((0, 1), repeat=k)])
    got = [uncertainty(p[None], by)[0] for by in ("entropy", "least_confident", "margin")]
    np.testing.assert_allclose(got, [entropy(sets), 1 - sets[-1], sets[-2] - sets[-1]], atol=1e-12)


@quick
@given(st.integers(0, 999), st.sampled_from(["entropy", "margin", "least_confident"]))
def test_doubtful_rows_come_first_and_sure_ones_last(seed, by):
    p = rng(seed).random((30, 4))
    p[7], p[9] = 0.5, [0, 1, 1, 0]
    order = uncertainty_sample(p, 30, by).tolist()
    assert sorted(order) == list(range(30)) and order[0] == 7 and order[-1] == 9


def share_error(y, at):
    return np.abs(y[at].mean(0) - y.mean(0)).mean()


def test_stratified_shares_are_as_good_as_those_of_iterstrat_and_better_than_chance():
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    y = labels(FILMS.tail(1500))
    ours = [share_error(y, stratified_sample(y, 150, rng(k))) for k in range(12)]
    theirs = [
        share_error(
            y,
            next(
                MultilabelStratifiedShuffleSplit(
                    1, train_size=150, test_size=1350, random_state=k
                ).split(y, y)
            )[0],
        )
        for k in range(12)
    ]
    chance = [share_error(y, random_sample(y, 150, rng(k))) for k in range(12)]
    assert np.mean(ours) <= np.mean(theirs) * 1.1 and max(ours) < min(chance), (
        np.mean(ours),
        np.mean(theirs),
        np.mean(chance),
    )


@quick
@given(st.integers(1, 60), st.integers(0, 999), st.data())
def test_stratified_gives_exactly_as_many_rows_as_asked(rows, seed, data):
    n = data.draw(st.integers(0, rows))
    at = stratified_sample(rng(seed).integers(0, 2, (rows, 5)), n, rng(seed))
    assert len(at) == len(set(at.tolist())) == n


@quick
@given(st.integers(0, 999), st.integers(1, 4), st.booleans())
def test_greedy_centres_are_within_twice_the_best(seed, n, draw):
    x = rng(seed).normal(size=(10, 3))
    radius = lambda at: np.linalg.norm(x[:, None] - x[list(at)], axis=2).min(1).max()
    best = min(radius(at) for at in itertools.combinations(range(10), n))
    assert radius(diverse_sample(x, n, rng=rng(seed) if draw else None)) <= 2 * best + 1e-9


def test_a_diverse_sample_keeps_away_from_what_is_known():
    x = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    assert diverse_sample(x, 2, known=x[[0, 1, 2]])[0] == 3
    many = rng(1).normal(size=(3000, 384))
    assert len(set(diverse_sample(many, 40).tolist())) == 40


def test_a_diverse_sample_does_not_depend_on_where_the_points_lie():
    x = np.array([[1.0, 1], [2, 1], [1, 4], [1, 1.5]])
    assert diverse_sample(x, 4).tolist() == diverse_sample(x - 1 + 1e8, 4).tolist()
    known = x[:1]
    assert diverse_sample(x, 2, known).tolist() == diverse_sample(x + 1e8, 2, known + 1e8).tolist()


@pytest.mark.parametrize(
    "known, words",
    [
        ([[0, np.nan]], "known of shape .1, 2.: expected finite numbers"),
        ([[0, 0, 0]], "known of shape .1, 3.: expected 2 columns"),
        ([0, 0], "known of shape .2,.: expected finite numbers in a table"),
    ],
)
def test_known_points_that_do_not_fit_are_refused(known, words):
    with pytest.raises(ValueError, match=words):
        diverse_sample([[0, 0], [0, 1], [9, 9]], 2, known)
    assert diverse_sample([[0, 0], [0, 1]], 1, []).tolist() == [0]


@pytest.mark.parametrize(
    "call",
    [
        lambda r: random_sample(50, 9, r),
        lambda r: stratified_sample(rng(3).integers(0, 2, (50, 4)), 9, r),
        lambda r: diverse_sample(rng(3).random((50, 2)), 9, rng=r),
    ],
)
def test_the_same_stream_chooses_the_same_rows(call):
    assert call(rng(5)).tolist() == call(rng(5)).tolist() != call(rng(6)).tolist()


# Labels that come late


def test_labels_come_after_exponential_delays_or_never():
    waits = label_weeks(FILMS, mean=4, never=0.3)
    come = waits[np.isfinite(waits)]
    assert binomtest(len(come), len(FILMS), 0.7).pvalue > 0.001
    assert kstest(come, "expon", args=(0, 4)).pvalue > 0.001
    assert (label_weeks(FILMS, mean=4, seed=8) != label_weeks(FILMS, mean=4)).mean() > 0.99
    assert label_weeks(FILMS).max() == 0 and np.isinf(label_weeks(FILMS, never=1)).all()


def test_a_film_waits_as_long_whoever_asks_and_longer_for_a_longer_mean():
    part = FILMS.sample(300, random_state=7)
    assert (label_weeks(part, 4) == label_weeks(FILMS, 4)[part.index]).all()
    assert label_weeks(FILMS, 13) == pytest.approx(label_weeks(FILMS, 4) * 13 / 4)


@pytest.mark.parametrize("months", [1, 3])
def test_labels_that_have_come_stay_and_none_comes_before_its_film(months):
    asked = dict(mean=4, never=0.5, months_per_week=months)
    there = [labelled_by(FILMS, now, **asked) for now in ("2000-01-01", "2005-01-01", "2012-06-01")]
    for earlier, later in itertools.pairwise(there):
        assert (later >= earlier).all() and later.sum() > earlier.sum()
    assert FILMS.arrived[there[1]].max() < pd.Timestamp("2005-01-01")
    at_once = labelled_by(FILMS, "2005-01-01")
    assert (at_once == (FILMS.arrived < "2005-01-01")).all()
    assert not labelled_by(FILMS.assign(arrived=pd.NaT), "2005-01-01").any()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(mean=-1), "mean = -1"),
        (dict(mean=np.nan), "mean = nan"),
        (dict(never=1.5), "never = 1.5"),
        (dict(now="soon"), "now = 'soon'"),
        (dict(months_per_week=0), "months_per_week = 0"),
    ],
)
def test_impossible_delays_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        labelled_by(**{"films": FEW, "now": "2012-01-01"} | wrong)
