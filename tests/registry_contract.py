"""What every registry keeps, wherever its history and files lie: each `contract_` function takes
`open_registry`, which opens the same registry at each call, a fresh one at the first, and a folder
for models."""

import json

import numpy as np
import pandas as pd
import pytest

from trending_now.genres.booster import seal
from trending_now.registry.registry import Registry
from trending_now.registry.stages import STAGES, Event, RegistryError


def model(folder, text="trees", **files):
    "A sealed model: a folder with a file or two."
    folder.mkdir(parents=True)
    (folder / "model.ubj").write_text(text)
    (folder / "features").mkdir()
    (folder / "features" / "names.json").write_text(json.dumps([text]))
    for name, content in files.items():
        (folder / name).write_text(content)
    seal(folder)
    return folder


def versions(registry, folder, count):
    "Register so many models; their names."
    return [
        registry.register(model(folder / f"model{n}", f"trees {n}"), {"f1": n / 10}, None)
        for n in range(1, count + 1)
    ]


def promoted(registry, folder, count):
    "Register and promote so many models, one after the other."
    for name in versions(registry, folder, count):
        registry.promote(name, "me", f"{name} is better")


def refused(words, act, *args, **kw):
    "The call raises RegistryError with all of these words, and writes nothing."
    with pytest.raises(RegistryError) as caught:
        act(*args, **kw)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"
    return str(caught.value)


def one_champion(registry):
    standing = registry.standing()
    stages = list(standing.stages.values())
    assert stages.count("champion") == 1 == len({standing.champion} & {*standing.stages})
    assert standing.stages[standing.champion] == "champion"


def rows(registry):
    return registry.history().kind.tolist()


def contract_nothing_yet(open_registry, folder):
    registry = open_registry()
    assert registry.champion() is None and registry.versions() == registry.challengers() == []
    assert list(registry.history()) == ["at", "kind", "version", "stage", "by", "reason"]
    assert len(registry.history()) == len(registry.runs()) == 0
    refused(["no champion yet"], registry.get, "champion")
    refused(["'v1'", "none yet"], registry.promote, "v1", "me", "")
    refused(["no champion"], registry.rollback, "me", "why")


def contract_a_version_is_what_was_registered(open_registry, folder):
    made = model(folder / "a", extra="more")
    metrics = {"micro_f1": np.float64(0.5), "films": np.int64(7), "low": [0.1, None]}
    registry = open_registry()
    name = registry.register(
        made, metrics, {"rule": "all"}, by="train", at="2012-01-01", run="night"
    )
    (made / "model.ubj").write_text("changed later")
    found = open_registry().get(name)
    assert (name, found.version, found.stage) == ("v1", "v1", "candidate")
    assert found.metrics == {"micro_f1": 0.5, "films": 7, "low": [0.1, None]}
    assert found.lineage == {"rule": "all"} and found.run == "night" and found.aliases == ()
    assert pd.Timestamp(found.registered) == pd.Timestamp("2012-01-01")
    assert {*found.files} == {"model.ubj", "features/names.json", "extra"}
    assert (found.folder / "model.ubj").read_text() == "trees"
    assert (found.folder / "features" / "names.json").exists()
    registry.verify("v1")


def contract_a_lineage_is_stored_as_json(open_registry, folder):
    from trending_now.catalogue import load_films
    from trending_now.curation.lineage import Lineage, curate
    from trending_now.curation.windows import LatestWindow

    lineage = curate(load_films(), LatestWindow(1), now="2000-01-01")[1]
    open_registry().register(model(folder / "a"), {}, lineage)
    stored = open_registry().get("v1").lineage
    assert Lineage.from_json(json.dumps(stored)) == lineage


def contract_a_model_that_is_not_sealed_or_has_changed_is_not_registered(open_registry, folder):
    registry, made = open_registry(), model(folder / "a")
    (made / "model.ubj").write_text("other")
    refused(["model.ubj", "changed"], registry.register, made, {}, None)
    (made / "checksums.json").unlink()
    refused(["checksums.json"], registry.register, made, {}, None)
    refused(["nowhere"], registry.register, folder / "nowhere", {}, None)
    for wrong in ({"f1": float("nan")}, {"f1": {1, 2}}):
        with pytest.raises(ValueError, match="metrics"):
            registry.register(model(folder / str(len(wrong)) / str(id(wrong))), wrong, None)
    assert registry.versions() == [] and len(registry.history()) == 0


def contract_stages_go_forward(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 3)
    for stage in STAGES[1:4]:
        registry.move("v1", stage, "gate", "passed")
        assert registry.stage("v1") == stage and registry.versions(stage) == ["v1"]
    assert registry.challengers() == ["v1"]
    refused(["challenger", "candidate"], registry.move, "v1", "candidate", "me", "")
    refused(["only a promotion"], registry.move, "v2", "champion", "me", "")
    registry.move("v2", "challenger", "gate", "several steps at once")
    registry.promote("v2", "me", "first")
    refused(["v2 is the champion"], registry.move, "v2", "archived", "me", "")
    registry.move("v3", "archived", "gate", "no gain")
    refused(["archived"], registry.move, "v3", "challenger", "me", "")
    for act in (lambda: registry.move("v1", "best", "me", ""), lambda: registry.versions("best")):
        with pytest.raises(ValueError, match="best"):
            act()
    assert registry.versions() == ["v1", "v2", "v3"]


def contract_a_promotion_archives_the_old_champion(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 3)
    assert registry.promote("v1", "me", "first", over="") == "v1"
    assert registry.promote("v2", "me", "better", over="v1") == "v2"
    assert registry.champion() == open_registry().get("champion").version == "v2"
    assert registry.stage("v1") == "archived"
    assert registry.standing().champions == ("v1", "v2")
    assert registry.get("v2").aliases == ("champion",)
    refused(["v2 is the champion already"], registry.promote, "v2", "me", "again")
    one_champion(registry)


def contract_a_promotion_over_another_champion_names_who_won(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 3)
    registry.promote("v1", "me", "first")
    registry.promote("v2", "Ada", "faster")
    before = len(registry.history())
    refused(["v3", "v1", "v2", "Ada", "faster"], registry.promote, "v3", "me", "", over="v1")
    refused(["v3", "nobody", "v2"], registry.promote, "v3", "me", "", over="")
    assert len(registry.history()) == before and registry.champion() == "v2"


def contract_a_rollback_goes_to_the_champion_before(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 3)
    assert registry.rollback("watch", "fewer clicks") == "v2" == registry.champion()
    assert registry.standing().barred == {"v3"} and registry.stage("v3") == "archived"
    assert registry.rollback("watch", "still fewer") == "v1" == registry.champion()
    refused(["no former champion"], registry.rollback, "watch", "and again")
    one_champion(registry)
    last = registry.store.events()[-1]
    assert (last.kind, last.version, last.over, last.reason) == (
        "rollback",
        "v1",
        "v2",
        "still fewer",
    )


def contract_a_rollback_does_not_go_to_what_a_rollback_took_out(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 3)
    registry.rollback("watch", "v3 is bad")
    registry.promote(versions(registry, folder / "more", 1)[0], "me", "v4")
    assert registry.rollback("watch", "v4 is bad too") == "v2"


def contract_what_was_rolled_back_serves_again_only_with_an_override(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 2)
    registry.rollback("watch", "fewer clicks")
    refused(["v2", "override"], registry.promote, "v2", "me", "but I like it")
    registry.promote("v2", "Ada", "repaired", override="the fault was in the page")
    assert registry.champion() == "v2" and registry.standing().barred == frozenset()
    assert registry.store.events()[-1].payload["override"] == "the fault was in the page"
    one_champion(registry)


def contract_same_key_twice_changes_nothing(open_registry, folder):
    registry, made = open_registry(), model(folder / "a")
    other = model(folder / "b", "other trees")
    registry.register(other, {}, None)
    twice = {
        "register": lambda r: r.register(made, {"f1": 1}, None, key="register"),
        "move": lambda r: r.move("v2", "challenger", "gate", "passed", key="move"),
        "promote": lambda r: r.promote("v2", "me", "best", over="", key="promote"),
        "next": lambda r: r.promote("v1", "me", "better", over="v2", key="next"),
        "rollback": lambda r: r.rollback("watch", "worse", key="rollback"),
        "note": lambda r: r.note("v2", "looked at", "me", key="note"),
        "run": lambda r: r.log_run("night", {"trees": 3}, {"f1": 0.5}, key="run"),
    }
    for count, (name, act) in enumerate(twice.items(), 2):
        came = act(registry)
        standing = registry.standing()
        assert act(open_registry()) == came, name
        assert len(registry.history()) == count, name
        assert registry.standing() == standing, name
    for act in twice.values():  # long after, all of them again
        act(open_registry())
    assert len(registry.history()) == len(twice) + 1 and registry.champion() == "v2"


def contract_a_key_stands_for_one_thing(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 2)
    registry.promote("v1", "me", "first", key="week 3")
    refused(["week 3", "promote v1", "v2"], registry.promote, "v2", "me", "", key="week 3")
    refused(["week 3", "promote v1"], registry.rollback, "me", "", key="week 3")
    refused(["week 3", "promote v1"], registry.log_run, "night", {}, {}, key="week 3")
    assert rows(registry) == ["register", "register", "promote"]


def contract_a_tampered_version_is_named_and_not_served(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 6)
    registry.promote("v1", "me", "first")

    def change(files):
        (files / "model.ubj").write_text("other trees")

    def change_and_seal(files):
        change(files)
        seal(files)

    def take_away(files):
        (files / "features" / "names.json").unlink()
        seal(files)

    def add(files):
        (files / "extra.py").write_text("import this")
        seal(files)

    def only_the_seal(files):
        (files / "checksums.json").write_text("{}")

    damage = {
        "v2": (change, "model.ubj has changed"),
        "v3": (change_and_seal, "model.ubj has changed"),
        "v4": (take_away, "features/names.json is missing"),
        "v5": (add, "extra.py was added"),
        "v6": (only_the_seal, "checksums.json has changed"),
    }
    for name, (harm, words) in damage.items():
        registry.verify(name)
        harm(registry.get(name).folder)
        refused([name, words], registry.verify, name)
        refused([name, words], registry.promote, name, "me", "better")
    registry.verify("v1")
    assert registry.champion() == "v1" and rows(registry) == ["register"] * 6 + ["promote"]


def contract_a_rollback_passes_over_what_was_tampered_with(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 4)
    for name in ("v2", "v3"):
        files = registry.get(name).folder
        (files / "model.ubj").write_text("other trees")
        seal(files)
    assert registry.rollback("watch", "fewer clicks") == "v1" == registry.champion()
    passed = registry.store.events()[-1].payload["passed_over"]
    assert {*passed} == {"v2", "v3"} and "model.ubj" in passed["v2"]
    assert registry.standing().barred == {"v4"}


def contract_nobody_to_roll_back_to(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 2)
    files = registry.get("v1").folder
    (files / "model.ubj").unlink()
    refused(["v1", "model.ubj is missing"], registry.rollback, "watch", "fewer clicks")
    assert registry.champion() == "v2" and rows(registry)[-1] == "promote"


def contract_unknown_names_are_named_with_the_known_ones(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 2)
    registry.alias("v1", "best")
    refused(["'v7'", "v1, v2", "best"], registry.get, "v7")
    for act in (
        registry.stage,
        registry.verify,
        lambda v: registry.promote(v, "me", ""),
        lambda v: registry.move(v, "archived", "me", ""),
        lambda v: registry.alias(v, "worst"),
        lambda v: registry.note(v, "text", "me"),
    ):
        refused(["'v7'", "v1, v2"], act, "v7")


def contract_an_alias_means_the_version_it_was_given_last(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 2)
    registry.alias("v1", "best", by="me")
    registry.alias("v1", "best", by="me")
    assert rows(registry)[2:] == ["alias"]
    registry.alias("v2", "best", by="me")
    assert open_registry().get("best").version == "v2"
    assert registry.get("v2").aliases == ("best",) and registry.get("v1").aliases == ()
    for name in ("champion", *STAGES, "v1", "v9", "", 7):
        refused(["alias"], registry.alias, "v1", name)
    assert registry.get("best").version == "v2"


def contract_training_runs_and_notes_are_in_the_history(open_registry, folder):
    registry = open_registry()
    registry.log_run("night", {"trees": 3}, {"f1": 0.5}, at="2012-01-01")
    registry.log_run("day", {"trees": 4}, {"f1": np.float64(0.6)})
    table = open_registry().runs()
    assert table.name.tolist() == ["night", "day"]
    assert table["config.trees"].tolist() == [3, 4]
    assert table["metrics.f1"].tolist() == [0.5, 0.6]
    versions(registry, folder, 1)
    registry.note("v1", "half of the films are short", "Ada")
    last = registry.history().iloc[-1]
    assert (last.kind, last.version, last.by) == ("note", "v1", "Ada")
    assert last.reason == "half of the films are short"


def contract_history_only_grows(open_registry, folder):
    registry, before = open_registry(), []
    promoted(registry, folder, 2)
    for act in (
        lambda: registry.rollback("me", "bad"),
        lambda: registry.note("v1", "good", "me"),
        lambda: registry.prune(0),
        lambda: registry.log_run("night", {}, {}),
    ):
        act()
        now = registry.store.events()
        assert now[: len(before)] == before and len(now) > len(before)
        before = now
    assert [event.at for event in before] == sorted(event.at for event in before)


def contract_pruning_keeps_what_a_rollback_needs(open_registry, folder):
    registry = open_registry()
    promoted(registry, folder, 4)
    versions(registry, folder / "more", 2)
    registry.move("v5", "archived", "gate", "no gain")
    assert registry.prune(2, by="me", reason="room") == ["v1", "v5"]
    refused(["v1"], lambda: registry.get("v1").folder)
    refused(["v1", "pruned"], registry.verify, "v1")
    refused(["v1", "pruned"], registry.promote, "v1", "me", "")
    assert registry.get("v1").stage == "archived" and registry.get("v1").metrics == {"f1": 0.1}
    assert registry.prune(2) == []
    for name in ("v2", "v3", "v4", "v6"):
        registry.verify(name)
    assert registry.rollback("me", "") == "v3" and registry.rollback("me", "") == "v2"
    refused(["v1", "pruned"], registry.rollback, "me", "")
    with pytest.raises(ValueError, match="keep"):
        registry.prune(-1)


def contract_who_acts_is_named(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 1)
    for act in (
        lambda: registry.promote("v1", "", "why"),
        lambda: registry.rollback(" ", "why"),
        lambda: registry.move("v1", "challenger", None, "why"),
        lambda: registry.note("v1", "", "me"),
        lambda: registry.promote("v1", "me", "why", at=5),
    ):
        with pytest.raises(ValueError):
            act()
    assert rows(registry) == ["register"]


def contract_the_store_keeps_to_the_rules(open_registry, folder):
    registry = open_registry()
    versions(registry, folder, 2)
    registry.promote("v1", "me", "first", key="once")
    store, at = registry.store, "2012-01-01T00:00:00"
    wrong = {
        "registered already": Event("register", "v1", "candidate", "me", "", at),
        "no version 'v9'": Event("move", "v9", "archived", "me", "", at),
        "was to follow": Event("promote", "v2", "champion", "me", "", at, over="v7"),
        "nobody": Event("promote", "v2", "champion", "me", "", at),
        "never champion": Event("rollback", "v2", "champion", "me", "", at, over="v1"),
        "kind": Event("praise", "v2", "", "me", "", at),
        "a moment": Event("note", "v2", "", "me", "", "yesterday"),
        "stage": Event("note", "v2", "challenger", "me", "", at),
    }
    for words, event in wrong.items():
        refused([words], store.append, lambda events, event=event: event)
    again = Event("note", "v2", "", "me", "", at, key="once")
    assert store.append(lambda events: again) == store.events()[2]
    with pytest.raises(ZeroDivisionError):
        store.append(lambda events: 1 / 0)
    with pytest.raises(ValueError, match="JSON"):
        store.append(lambda events: Event("note", "v2", "", "me", "", at, payload={"x": {1}}))
    with pytest.raises(ValueError, match="JSON"):
        registry.note("v1", "half a character: \ud83d", "me")
    assert len(store.events()) == 3


def contract_files_are_added_once_and_dropped(open_registry, folder):
    store = open_registry().store
    made, other = model(folder / "a"), model(folder / "b", "other trees")
    store.add_files("v1", made)
    store.add_files("v1", made)
    assert (store.files("v1") / "model.ubj").read_text() == "trees"
    refused(["v2"], store.files, "v2")
    registry = open_registry()
    assert registry.register(other, {}, None) == "v1"  # the leftover of a run that was killed
    assert (store.files("v1") / "model.ubj").read_text() == "other trees"
    refused(["v1"], store.add_files, "v1", made)
    store.drop_files("v1")
    store.drop_files("v1")
    refused(["v1"], store.files, "v1")


CONTRACT = [act for name, act in list(globals().items()) if name.startswith("contract_")]


def opener(url):
    "Opens the registry at an address."
    return lambda: Registry.open(url)
