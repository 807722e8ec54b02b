"""The pytest plugin as users meet it: exit codes, fixtures, reports. The backups are notes (tests/toy.py)."""

import json
import xml.etree.ElementTree as ET

import pytest
import toy

from harness import components
from harness.report import html
from harness.run import pytest_state
from harness.run.suites import suites

PRELOADED = (html, pytest_state)  # pytester forgets after each run what was first imported in it

pytest_plugins = ["pytester"]

GOOD, BAD, UNKNOWN = "a b END", "LOST END", "BROKEN END"


@pytest.fixture
def job(pytester, monkeypatch):
    """Run pytest over `args` in a folder whose backups are `notes`; reports go to ./out."""
    toy.install(monkeypatch)
    monkeypatch.setenv("TOY_LOG", str(pytester.path / "toy.log"))
    (pytester.path / "config-backups").mkdir()

    def run(notes, *args):
        for name, text in notes.items():
            (pytester.path / "config-backups" / name).write_text(text)
        given = args or (str(suites()),)
        return pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--provado-output", "out", *given
        )

    yield run
    components.component.cache_clear()


def restores(pytester):
    log = pytester.path / "toy.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def evidence(pytester):
    return json.loads((pytester.path / "out" / "evidence.json").read_text())


@pytest.mark.parametrize(
    ("notes", "code", "verdict"),
    [
        ({"n.note": GOOD}, 0, "pass"),
        ({"n.note": GOOD, "m.note": BAD}, 1, "fail"),
        ({"n.note": GOOD, "m.note": UNKNOWN}, 3, "inconclusive"),
        ({"m.note": BAD, "n.note": UNKNOWN}, 1, "fail"),
        ({}, 1, "fail"),
    ],
)
def test_exit_code_and_evidence_agree(job, pytester, notes, code, verdict):
    result = job(notes)
    assert result.ret == code
    assert (evidence(pytester)["verdict"], evidence(pytester)["exit_code"]) == (verdict, code)
    assert restores(pytester) == len(notes)  # one restore per backup, however many tests
    result.stdout.fnmatch_lines(["*Provado*", f"{verdict.upper()}*"])


def test_a_selection_of_tests_never_hides_the_verdict(job, pytester):
    assert job({"m.note": BAD}, str(suites()), "-k", "whole").ret == 1
    assert evidence(pytester)["verdict"] == "fail"


def test_nothing_but_skipped_is_not_a_pass(job):
    assert job({"n.note": GOOD}, str(suites()), "-k", "note.source").ret == 3
    assert job({"n.note": GOOD}, str(suites() / "test_redis.py")).ret == 5  # pytest: nothing collected


def test_a_wrong_configuration_is_exit_2_or_pytests_own(job, pytester):
    (pytester.path / "provado.yaml").write_text("bakups: []\n")
    result = job({"n.note": GOOD})
    assert result.ret in (2, 4)
    assert "bakups" in result.stderr.str() + result.stdout.str()


def test_a_waiver_that_nothing_needs_fails_everywhere(job, pytester):
    waiver = "{check: note.content, object: 'x.*', reason: known for long, owner: ops, expires: 2099-01-01}"
    (pytester.path / "provado.yaml").write_text(f"waivers: [{waiver}]\nbackups: [{{path: config-backups}}]\n")
    result = job({"n.note": GOOD})
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAILED*test_waivers*"])
    assert "policy.waiver-unused" in {f["check"] for f in evidence(pytester)["backups"][0]["findings"]}


def test_users_tests_get_the_restored_backup_alive_and_count(job, pytester):
    pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.control("ISO27001:A.5.30")
        @pytest.mark.proves("usability")
        def test_words(restored_files, backup, evidence):
            assert restored_files.restored
            assert backup.path.name == "n.note"
            assert evidence.teardown is None

        def test_wrong(restored_files):
            secret = "row value 4711"
            assert secret == ""
        """
    )
    result = job({"n.note": GOOD}, str(suites()), "test_own.py")
    assert result.ret == 1
    assert restores(pytester) == 1
    checks = {c["id"]: c for c in evidence(pytester)["backups"][0]["checks"]}
    own = checks["test.test_own.test_words"]
    assert (own["status"], own["proves"], own["controls"]) == ("pass", "usability", ["ISO27001:A.5.30"])
    assert checks["test.test_own.test_wrong"]["status"] == "fail"
    assert "4711" not in (pytester.path / "out" / "evidence.json").read_text()
    assert evidence(pytester)["backups"][0]["teardown"]["complete"]


def test_users_files_may_have_the_names_of_ours(job, pytester):
    pytester.makepyfile(test_files="def test_words(restored_files): assert restored_files.text")
    assert job({"n.note": GOOD}, "test_files.py", str(suites())).ret == 0
    assert restores(pytester) == 1


def test_users_tests_alone_are_a_drill_too(job, pytester):
    pytester.makepyfile(test_own="def test_words(restored_files): assert restored_files.text")
    assert job({"n.note": GOOD}, "test_own.py").ret == 0
    assert job({"n.note": BAD}, "test_own.py").ret == 1  # the drill's checks found the loss
    assert job({"n.note": "NOSANDBOX END"}, "test_own.py").ret == 3


def test_without_a_manifest_the_fixture_skips(job, pytester):
    pytester.makepyfile(test_own="def test_source(manifest): assert manifest.facts")
    result = job({"n.note": GOOD}, "test_own.py")
    result.assert_outcomes(skipped=1)
    assert result.ret == 3


def test_inconclusive_is_an_error_in_junit_and_a_finding_a_failure(job, pytester):
    job({"n.note": UNKNOWN, "m.note": BAD}, str(suites()), "--junitxml", "j.xml")
    cases = {c.get("name"): {e.tag for e in c} for c in ET.parse(pytester.path / "j.xml").iter("testcase")}
    assert "error" in cases["test_verdict[n.note]"]
    assert "error" in cases["test_files[n.note-note.content]"]
    assert "failure" in cases["test_verdict[m.note]"]
    assert "failure" in cases["test_files[m.note-note.content]"]
    assert "skipped" in cases["test_files[m.note-note.source]"]


def test_pytest_html_carries_the_summary_also_for_failed_setups(job, pytester):
    hostile = "<img src=x onerror=alert(1)>.note"
    job({hostile: UNKNOWN, "m.note": BAD}, str(suites()), "--html", "p.html", "--self-contained-html")
    page = (pytester.path / "p.html").read_text()
    assert "FAIL: " in page
    assert page.count("report.html") >= 3
    assert "<img src=x" not in page
    assert "onerror=alert(1)&gt;" in page or "onerror" not in page


def test_workers_do_not_repeat_the_restore(job, pytester):
    pytest.importorskip("xdist")
    result = job({"n.note": GOOD}, str(suites()), "-n", "2")
    assert result.ret == 0
    assert restores(pytester) == 1


def test_other_projects_fixtures_of_the_same_names_are_left_alone(pytester):
    pytester.makepyfile(
        test_foreign="""
        import pytest

        @pytest.fixture
        def backup():
            return 1

        @pytest.mark.parametrize("verdict", [2])
        def test_theirs(backup, verdict):
            assert (backup, verdict) == (1, 2)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "reports").exists()


def test_the_plugin_costs_other_projects_next_to_nothing(pytester):
    pytester.makepyfile(
        test_light="""
        import sys

        def test_nothing_heavy_was_imported():
            heavy = {"psycopg", "redis", "pydantic", "testcontainers", "harness.drill"}
            loaded = sorted(heavy & set(sys.modules))
            assert loaded == []
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=1)
