"""The catalogue: files are read whole or refused with all their faults, and one list says what a
valid value is."""

import sqlite3
import numpy as np
import pandas as pd
import pytest
from unicodedata import normalize
from trending_now.catalogue import (
    COLUMNS,
    CatalogueError,
    as_record,
    bad_values,
    labels,
    load_films,
    moments,
    write_weeks,
)
from trending_now.checks import moment
from trending_now.genres import FilmFeatures

FILMS = load_films()
MINE = pd.DataFrame(
    {
        "film_id": ["1", "2", "3"],
        "title": ["Up", "Heat", "Her"],
        "year": [2009, 1995, 2013],
        "genres": ["Comedy", "Drama", "Drama, Romance"],
    }
)


def written(folder, name="f.csv", **columns):
    "A file of three films with other columns."
    films, path = MINE.assign(**columns), folder / name
    films.to_csv(path, index=False) if name.endswith("csv") else films.to_parquet(path)
    return path


def problems(path):
    "What the catalogue finds wrong with a file: (row, column) for each."
    with pytest.raises(CatalogueError) as e:
        load_films(path)
    return [(row, column) for row, column, *_ in e.value.problems]


# Files


@pytest.mark.parametrize("name", ["a?b#c/f.db", "100%41/f.sqlite", "a b/f.db"])
def test_a_database_is_opened_under_its_own_name_and_nothing_is_created(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        MINE.to_sql("films", db)
    db.close()
    assert len(load_films(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.parent.name]


def test_a_file_without_films_is_refused(tmp_path):
    MINE.head(0).to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(ValueError, match="empty.csv: none of 0 films"):
        load_films(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match="none of 3 films has one of the 12 genres"):
        load_films(written(tmp_path, genres="Komödie"))


@pytest.mark.parametrize("name", ["f.parquet", "f.db", "f.csv"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        load_films(path)
    path.write_bytes(b"\xff\xfe no films here, and no table either")
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_films(path)


# Values


def test_dates_in_two_spellings_are_all_read(tmp_path):
    days = ["2009-06-25", "1995-06-25 12:00", "2013-06-25T12:00:00.250"]
    films = load_films(written(tmp_path, arrived=days))
    assert films.arrived.dt.strftime("%Y-%m-%d").tolist() == [
        "1995-06-25",
        "2009-06-25",
        "2013-06-25",
    ]
    released = load_films(written(tmp_path, released=days))
    assert released.arrived.dt.date.tolist() == films.arrived.dt.date.tolist()


def test_a_date_that_could_be_read_in_two_ways_is_refused(tmp_path):
    bad = ["05/06/2009", "today", "2013"]
    assert problems(written(tmp_path, arrived=bad)) == [(k, "arrived") for k in range(3)]
    assert problems(written(tmp_path, released=bad)) == [(k, "released") for k in range(3)]
    assert problems(written(tmp_path, arrived=[20090625, 19950625, 20130625])) == [
        (k, "arrived") for k in range(3)
    ]


def test_a_film_may_arrive_after_its_year_but_not_before(tmp_path):
    assert len(load_films(written(tmp_path, arrived="2014-01-01"))) == 3
    assert problems(written(tmp_path, arrived="2009-01-01")) == [(2, "arrived")]


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_moments_with_a_time_zone_are_taken_in_utc(tmp_path, name):
    days = pd.Series(pd.to_datetime(["2014-01-01 01:00"] * 3)).dt.tz_localize("Europe/Paris")
    assert set(load_films(written(tmp_path, name, arrived=days)).arrived) == {
        pd.Timestamp("2014-01-01")
    }


def test_each_moment_is_read_by_itself():
    values = [
        np.datetime64("2012-05-30"),
        pd.Timestamp("2012-05-30", tz="UTC"),
        "2012-05-30",
        pd.Timestamp("2012-05-30").date(),
        "2012-05-30 02:00+02:00",
    ]
    assert (moments(pd.Series(values, dtype=object)) == "2012-05-30").all()
    junk = pd.Series([None, 2012, 20120530, True, "", "2012-13-01", ["2012-05-30"]], dtype=object)
    assert moments(junk).isna().all()
    assert moments(junk.head(0)).dtype.kind == "M"


def test_a_moment_with_a_time_zone_is_taken_in_utc_and_a_number_is_none():
    assert moment("now", "2012-05-30T02:00+02:00") == pd.Timestamp("2012-05-30")
    assert moment("now", pd.Timestamp("2012-05-30", tz="UTC")) == pd.Timestamp("2012-05-30")
    for wrong in (20120530, 1.5, True, np.int64(7)):
        with pytest.raises(ValueError, match="now = "):
            moment("now", wrong)


@pytest.mark.parametrize(
    "column, value",
    [
        ("critic_count", 1e20),
        ("critic_count", -1),
        ("critic_count", 1.5),
        ("critic_score", np.inf),
        ("critic_score", 101),
        ("runtime", True),
        ("studio", ["Pixar"]),
        ("title", ["Up"]),
        ("title", "\ud800"),
        ("cast", 7),
        ("cast", [None]),
        ("cast", ["Tom", 7]),
        ("genres", '["Drama"'),
        ("genres", "[7]"),
    ],
)
def test_a_value_that_is_not_allowed_is_found_and_named(column, value):
    films = FILMS.tail(3).astype({column: object}).reset_index(drop=True)
    films.at[1, column] = value
    found = bad_values(films)
    assert found[column].tolist() == [False, True, False]
    assert not any(found[name].any() for name in COLUMNS if name != column)


def test_names_that_look_like_numbers_stay_texts(tmp_path):
    films = load_films(written(tmp_path, cast="50", studio="007", title="1984"))
    assert films["cast"].tolist() == [["50"]] * 3
    assert set(films.studio) == {"007"} and set(films.title) == {"1984"}


def test_ids_that_pandas_made_floats_have_no_point():
    films = as_record(FILMS.tail(3).assign(film_id=[1.0, 2.0, 3.0], title=[1984, 300.0, "Her"]))
    assert films.film_id.tolist() == ["1", "2", "3"]
    assert films.title.tolist() == ["1984", "300", "Her"]


def test_a_record_stays_as_it_is():
    pd.testing.assert_frame_equal(as_record(FILMS), FILMS)
    assert not any(bad.any() for bad in bad_values(FILMS).values())


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_a_name_is_the_same_person_in_either_normal_form(tmp_path, name):
    apart = normalize("NFD", "Agnès Varda")
    assert len(apart) == 12
    films = load_films(written(tmp_path, name, directors=apart, title=apart, studio=apart))
    assert films.directors.tolist() == [["Agnès Varda"]] * 3
    assert set(films.title) == set(films.studio) == {"Agnès Varda"}


def test_ids_that_differ_in_their_normal_form_alone_are_one(tmp_path):
    ids = ["é", normalize("NFD", "é"), "e"]
    assert problems(written(tmp_path, film_id=ids)) == [(1, "film_id")]


def test_a_text_where_a_list_belongs_is_not_read_letter_by_letter():
    films = FILMS.tail(5)
    with pytest.raises(ValueError, match="genres = 'Drama': expected a list"):
        labels(films.assign(genres="Drama"))
    for column in ("cast", "countries"):
        with pytest.raises(ValueError, match=f"{column} = 'Drama': expected a list"):
            FilmFeatures().transform(films.assign(**{column: "Drama"}))


def test_weeks_of_no_month_are_refused(tmp_path):
    with pytest.raises(ValueError, match="months_per_week = 0"):
        write_weeks(FILMS.tail(5), tmp_path, months_per_week=0)
