"""Which backups a run judges: paths, provado.yaml, the runbook's layout; and what is missing."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest
import toy

from harness import components
from harness.errors import ConfigError, ToolError
from harness.evidence.record import judge
from harness.model import Verdict
from harness.run.plan import make_plan
from harness.run.session import Session
from harness.settings import Settings


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    toy.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config-backups"
    folder.mkdir()
    for day in (21, 22, 23):
        (folder / f"n-202611{day}-020000.note").write_text("a END")
    yield folder
    components.component.cache_clear()


def names(plan):
    return [a.path.name for a in plan.artifacts]


def test_without_anything_the_runbooks_layout_counts():
    assert names(make_plan(Settings())) == ["n-20261123-020000.note"]


def test_a_folder_gives_its_newest_or_all():
    from pathlib import Path

    assert names(make_plan(Settings(), [Path("config-backups")])) == ["n-20261123-020000.note"]
    assert len(make_plan(Settings(), [Path("config-backups")], choice="all").artifacts) == 3
    one = make_plan(Settings(), [Path("config-backups")], choice="n-20261121-020000.note")
    assert names(one) == ["n-20261121-020000.note"]


def test_the_same_backup_named_twice_is_drilled_once(notes):
    path = notes / "n-20261123-020000.note"
    assert len(make_plan(Settings(), [path, path, notes]).artifacts) == 1


def test_what_is_not_there_is_missing(notes, tmp_path):
    plan = make_plan(Settings(), [tmp_path / "nope.note", notes])
    assert [m.path.name for m in plan.missing] == ["nope.note"]
    (tmp_path / "empty").mkdir()
    assert make_plan(Settings(), [tmp_path / "empty"]).missing
    assert make_plan(Settings(), [notes], components=["redis"]).missing


def test_a_path_that_cannot_be_looked_at_is_missing_and_a_long_name_is_none(notes):
    assert "too long" in make_plan(Settings(), [Path("x" * 300)]).missing[0].why
    longest = notes / f"{'x' * 245}.note"  # with .manifest.json behind it no name any more
    longest.write_text("a END")
    assert names(make_plan(Settings(), [longest])) == [longest.name]


def test_a_fifo_is_no_backup(notes):
    os.mkfifo(notes / "pipe")
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        make_plan(Settings(), [notes / "pipe"])


def test_a_folder_that_cannot_be_read_is_not_passed_over(notes, monkeypatch):
    closed = notes / "more"
    closed.mkdir()
    read = Path.iterdir

    def iterdir(folder):  # root may read everything
        if folder.name in ("more", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return read(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(ToolError, match="may read it"):
        make_plan(Settings(), [notes])
    closed.rename(notes / "lost+found")
    assert len(make_plan(Settings(), [notes], choice="all").artifacts) == 3


def test_nothing_at_all_is_missing(tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    plan = make_plan(Settings())
    assert not plan.artifacts
    assert "no PATH was given" in plan.missing[0].why


def test_provado_yaml_lists_places(notes):
    settings = Settings.model_validate(
        {"backups": [{"path": str(notes), "select": "all"}, {"path": "/nope"}]}
    )
    plan = make_plan(settings)
    assert len(plan.artifacts) == 3
    assert [str(m.path) for m in plan.missing] == ["/nope"]


def test_names_tell_local_time(notes):
    settings = Settings.model_validate({"policy": {"timezone": "America/Sao_Paulo"}})
    taken = make_plan(settings, [notes]).artifacts[0].taken_at
    assert taken.isoformat() == "2026-11-23T05:00:00+00:00"


@pytest.mark.parametrize("choice", ["weekly", "nope.note"])
def test_a_selection_of_nothing_is_an_error(notes, choice):
    with pytest.raises(ConfigError, match="matches no backup"):
        make_plan(Settings(), [notes], choice=choice)


def test_one_manifest_for_several_backups_is_an_error(notes, tmp_path):
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ConfigError, match="one manifest"):
        make_plan(Settings(), [notes], choice="all", manifest=tmp_path / "m.json")
    with pytest.raises(ConfigError, match="not a file"):
        make_plan(Settings(), [notes], manifest=tmp_path / "nope.json")


def test_a_waiver_of_an_unknown_check_is_an_error(notes):
    waiver = {"check": "note.contents", "reason": "known for long", "owner": "ops", "expires": "2099-01-01"}
    with pytest.raises(ConfigError, match=r"Did you mean note\.content"):
        make_plan(Settings.model_validate({"waivers": [waiver]}), [notes])


def test_the_policy_and_steps_after_a_restore_can_be_waived(notes):
    common = {"reason": "known for long", "owner": "ops", "expires": "2099-01-01"}
    waivers = [{"check": check, **common} for check in ("policy.size", "release.new-columns")]
    steps = [{"name": "New columns", "sql": "SELECT 1"}]
    assert make_plan(Settings.model_validate({"waivers": waivers, "after_restore": steps}), [notes])
    with pytest.raises(ConfigError, match=r"no check called 'release\.new-columns'"):
        make_plan(Settings.model_validate({"waivers": waivers}), [notes])


def test_slugs_are_unique_and_harmless(tmp_path):
    hostile = tmp_path / "<img src=x onerror=alert(1)>.note"
    hostile.write_text("a END")
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / hostile.name
    twin.write_text("a END")
    slots = Session(make_plan(Settings(), [hostile, twin]), lambda *a: None).slots
    assert len({s.slug for s in slots}) == 2
    assert all(set(s.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._") for s in slots)


@pytest.mark.parametrize("jobs", [1, 3])
def test_drills_run_once_with_the_same_records(notes, jobs):
    seen = []
    settings = Settings(jobs=jobs)
    session = Session(
        make_plan(settings, [notes], choice="all"), lambda name, stage, d, t: seen.append(stage)
    )
    for index in (2, 0, 1, 0):
        session.close(index)
    records = session.finish()
    assert [r.artifact.path.name[2:10] for r in records] == ["20261121", "20261122", "20261123"]
    assert seen.count("restore") == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_drill_that_breaks_is_never_left_out(notes, monkeypatch, jobs):
    plan = make_plan(Settings(jobs=jobs), [notes], choice="all")

    def break_down(note):
        raise ZeroDivisionError("row value 4711")

    broken = dataclasses.replace(toy.COMPONENT, outcome=break_down)
    monkeypatch.setattr("harness.drill.component", lambda name: broken)
    session = Session(plan, lambda *a: None)
    for index in range(3):
        session.close(index)
    judged = [judge(record) for record in session.finish()]
    assert [j.verdict for j in judged] == [Verdict.INCONCLUSIVE] * 3
    assert "4711" not in judged[0].reason
