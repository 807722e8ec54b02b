"""The drill with a component of a few lines (tests/toy.py): every way it can end."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import toy

from harness import catalog, components
from harness.drill import drill, open_drill
from harness.errors import ConfigError
from harness.evidence.record import judge
from harness.model import Severity, Status, Verdict
from harness.settings import Settings, Waiver
from harness.waivers import unused


@pytest.fixture
def note(tmp_path, monkeypatch):
    toy.install(monkeypatch)

    def make(text, name="n-20261124-020000.note"):
        path = tmp_path / name
        path.write_text(text)
        found = catalog.identify(path, components.recognisers())
        assert found is not None
        return found

    yield make
    components.component.cache_clear()


@pytest.mark.parametrize(
    ("text", "verdict", "code"),
    [
        ("a b END", Verdict.PASS, "proven"),
        ("MEDIUM END", Verdict.PASS, "proven"),
        ("LOST END", Verdict.FAIL, "finding"),
        ("cut off", Verdict.FAIL, "finding"),
        ("DAMAGED END", Verdict.FAIL, "finding"),
        ("CLOSED END", Verdict.FAIL, "finding"),
        ("NOSANDBOX END", Verdict.INCONCLUSIVE, "blocked"),
        ("NOSANDBOX cut", Verdict.FAIL, "finding"),
        ("BLOCKED END", Verdict.INCONCLUSIVE, "blocked"),
        ("BROKEN END", Verdict.INCONCLUSIVE, "error"),
        ("LEFTOVER END", Verdict.INCONCLUSIVE, "teardown"),
        ("", Verdict.FAIL, "finding"),
    ],
)
def test_every_end(note, text, verdict, code):
    judged = judge(drill(note(text), Settings()))
    assert (judged.verdict, judged.code) == (verdict, code)


def test_records_what_was_measured_and_unproven(note):
    record = drill(note("a b END"), Settings())
    assert [s.name for s in record.stages] == ["inspect", "write", "checks", "teardown"]
    assert record.measured.rto_s == 0.5
    assert record.measured.backup_age_s > 0
    assert "no manifest: the file was not compared with its source" in record.unproven
    assert record.teardown.complete
    assert len(record.sha256) == 64


def test_the_sandbox_lives_until_close_and_the_scratch_folder_goes(note):
    running = open_drill(note("a END"), Settings())
    folder = Path(running.subject.folder)
    assert running.subject.restored
    assert (folder / "note").is_file()
    assert running.evidence().teardown is None
    record = running.close()
    assert not folder.parent.exists()
    assert running.close() is record


def test_an_interrupt_leaves_nothing(note):
    seen = []

    def stop(stage, done, total):
        if stage == "checks":
            raise KeyboardInterrupt
        seen.append(stage)

    before = set(Path("/tmp").glob("provado-scratch-*"))
    with pytest.raises(KeyboardInterrupt):
        drill(note("a END"), Settings(), progress=stop)
    assert seen == ["inspect", "restore"]
    assert set(Path("/tmp").glob("provado-scratch-*")) <= before


def test_the_clock_inside_the_file_wins_over_its_name(note):
    record = drill(note("DATED END"), Settings())
    assert record.artifact.taken_at == datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert record.artifact.taken_at_basis == "dump-header"


def test_a_break_inside_tells_its_place_and_no_data(note):
    broken = next(c for c in drill(note("BROKEN END"), Settings()).checks if c.id == "note.content")
    assert "ZeroDivisionError at toy.py" in broken.reason
    assert "4711" not in broken.reason


@pytest.mark.parametrize(
    ("objectives", "id", "status"),
    [
        ({"rpo": "1m"}, "policy.rpo", Status.FAIL),
        ({"rpo": "5000w"}, "policy.rpo", Status.PASS),
        ({"rto": "0.1s"}, "policy.rto", Status.FAIL),
        ({"rto": "1h"}, "policy.rto", Status.PASS),
    ],
)
def test_objectives(note, objectives, id, status):
    record = drill(note("DATED END"), Settings.model_validate({"objectives": objectives}))
    assert {c.id: c.status for c in record.checks}[id] is status


def test_a_modification_time_is_no_proof_of_age(note):
    record = drill(note("a END", "n.note"), Settings.model_validate({"objectives": {"rpo": "1h"}}))
    rpo = next(c for c in record.checks if c.id == "policy.rpo")
    assert rpo.status is Status.NOT_RUN
    assert [f.severity for f in rpo.findings] == [Severity.MEDIUM]
    assert record.measured.backup_age_s is None
    assert any("age" in text for text in record.unproven)


def test_nothing_restored_means_no_rto(note):
    record = drill(note("NOSANDBOX END"), Settings.model_validate({"objectives": {"rto": "1h"}}))
    assert {c.id: c.status for c in record.checks}["policy.rto"] is Status.NOT_RUN


def waiver(check="note.content", expires=date(2099, 1, 1), object="public.*"):
    return Waiver(check=check, object=object, reason="known and accepted", owner="ops", expires=expires)


def test_a_waiver_keeps_the_finding_and_lets_the_drill_pass_only_on_other_proofs(note):
    record = drill(note("LOST END"), Settings(waivers=(waiver(),)))
    waived = next(c for c in record.checks if c.id == "note.content")
    assert waived.status is Status.WAIVED
    assert waived.findings[0].object == "public.words"
    assert "ops" in waived.reason
    assert judge(record).verdict is Verdict.INCONCLUSIVE  # the only check of the content was waived


def test_an_expired_waiver_is_a_finding(note):
    record = drill(note("LOST END"), Settings(waivers=(waiver(expires=date(2020, 1, 1)),)))
    assert {"policy.waiver-expired", "note.content"} <= {f.check for f in record.findings}
    assert judge(record).verdict is Verdict.FAIL


def test_a_waiver_for_another_object_waives_nothing(note):
    record = drill(note("LOST END"), Settings(waivers=(waiver(object="audit.*"),)))
    assert judge(record).verdict is Verdict.FAIL
    assert unused((waiver(object="audit.*"),), record.checks).findings[0].check == "policy.waiver-unused"
    assert unused((waiver(),), record.checks) is None


def test_configuration_errors_stop_the_drill(note, monkeypatch):
    found = note("a END")

    def refuse(artifact, ctx):
        raise ConfigError("the manifest is no manifest")

    monkeypatch.setattr(toy, "COMPONENT", None)
    module = components.component("files")
    monkeypatch.setattr("harness.drill.component", lambda name: _with_inspect(module, refuse))
    with pytest.raises(ConfigError):
        drill(found, Settings())


def _with_inspect(component, inspect):
    import dataclasses

    return dataclasses.replace(component, inspect=inspect)
