from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import report_samples as samples

from harness.model import Status
from harness.redact import Secret, visible
from harness.report import view
from harness.report.aspects import aspects
from harness.report.controls import controls, mapping, proven_facts
from harness.report.html import environment, render
from harness.report.text import Words, harmless, words


def text_of(html: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_rendering_is_a_pure_function_of_the_evidence() -> None:
    evidence = samples.evidence(samples.redis(), samples.failing())
    before = json.dumps(evidence, sort_keys=True)
    assert render(evidence) == render(json.loads(before))
    assert json.dumps(evidence, sort_keys=True) == before


def test_compiled_templates_say_the_same_and_damaged_ones_are_made_again(tmp_path: Path) -> None:
    evidence = samples.evidence(samples.failing())
    plain = render(evidence)
    assert render(evidence, compiled=tmp_path) == plain
    kept = list(tmp_path.iterdir())
    assert kept
    for file in kept:
        file.write_bytes(file.read_bytes()[:-40])
    environment.cache_clear()
    assert render(evidence, compiled=tmp_path) == plain


@pytest.mark.parametrize(
    ("drill", "en", "pt"),
    [
        (samples.postgres, "Pass: what was backed up can be restored", "Aprovado: o que foi salvo"),
        (samples.failing, "Fail: do not rely on this backup", "Reprovado: não confie neste backup"),
        (samples.blocked, "Inconclusive: nobody knows yet", "Inconclusivo: ainda não se sabe"),
    ],
)
def test_the_verdict_leads_in_both_languages(drill: object, en: str, pt: str) -> None:
    evidence = samples.evidence(drill())  # type: ignore[operator]
    for lang, headline in (("en", en), ("pt-BR", pt)):
        html = render(evidence, lang)
        assert f'<html lang="{lang}">' in html
        assert headline in html.split("</h1>")[0]
    with pytest.raises(ValueError, match="no catalogue"):
        render(evidence, "fr")


def test_a_failure_names_object_loss_and_remedy_on_page_one() -> None:
    first = text_of(render(samples.evidence(samples.failing())).split('<section class="backup"')[0])
    for words_ in (
        "public.email_logs",
        "10 rows of the source are not in the backup",
        "take a new backup now",
        "500000",
        "499990",
        "RPO is 24 h",
        "provado evidence verify reports",
        "5f2c" * 16,
    ):
        assert words_ in first, words_


def test_what_was_not_examined_never_looks_proven() -> None:
    evidence = samples.evidence(samples.blocked())
    found = {a.key: a.state for a in aspects(evidence["backups"])}
    assert found["file"] == "proven"
    assert {found[k] for k in ("restore", "schema", "data", "usability", "objective")} == {"unproven"}
    page = text_of(render(evidence))
    assert "All rows, keys or file contents came back: not proven" in page
    assert "nothing was restored" in page


def test_an_aspect_is_proven_only_when_every_backup_proves_it() -> None:
    whole, part = (
        samples.evidence(samples.postgres())["backups"],
        samples.evidence(samples.redis())["backups"],
    )
    assert {a.key: a.state for a in aspects(whole)}["schema"] == "proven"
    assert {a.key: a.state for a in aspects([*whole, *part])}["schema"] == "proven"  # Redis has no schema
    unknown = samples.evidence(samples.blocked())["backups"]
    assert {a.key: a.state for a in aspects([*whole, *unknown])}["schema"] == "partly"
    for check in whole[0]["checks"]:
        if check["id"] == "pg.rows-of-source":
            check |= {"status": "not_run", "reason": "no manifest"}
    (data,) = [a for a in aspects(whole) if a.key == "data"]
    assert (data.state, data.passed, data.total, data.origins) == ("proven", 2, 3, ("artifact",))
    bad = samples.evidence(samples.failing())["backups"]
    assert {a.key: a.state for a in aspects([*whole, *bad])}["data"] == "failed"


def test_controls_name_the_facts_that_were_not_proven() -> None:
    judged = {c.id: c for c in controls(proven_facts(samples.evidence(samples.blocked())))}
    assert judged["A.8.13"].support == "part"  # the file was whole, and there was a drill before
    assert "Backups were restored into real servers, and the restore succeeded" in judged["A.8.13"].lacking
    assert judged["RC.RP-05"].support == "none"
    full = {c.id: c for c in controls(proven_facts(samples.evidence(samples.postgres())))}
    assert full["A.8.13"].support == "full"
    assert full["A1.2"].lacking == ("Retention was checked and is kept",)
    assert all(c.human for c in full.values())
    page = render(samples.evidence(samples.postgres()))
    assert "compliant" not in page


def test_facts_need_every_backup_and_no_doubt() -> None:
    good = samples.postgres()
    assert "data-compared" in proven_facts(samples.evidence(good))
    waived = tuple(
        replace(c, status=Status.WAIVED) if c.id == "pg.row-counts" else c for c in samples.checks()
    )
    assert "data-compared" not in proven_facts(samples.evidence(replace(good, checks=waived)))
    assert "source-compared" in proven_facts(samples.evidence(good))
    assert "source-compared" not in proven_facts(samples.evidence(good, samples.redis()))
    assert "isolated" not in proven_facts(samples.evidence(replace(good, teardown=None)))
    assert "regular" not in proven_facts(samples.evidence(good, history=[]))
    assert "signed" not in proven_facts(samples.evidence(good, ledger=None))
    assert proven_facts(samples.evidence()) == frozenset()


def test_every_framework_asked_for_is_mapped() -> None:
    frameworks = {c["framework"] for c in mapping()["controls"]}
    for name in ("SOC 2", "ISO/IEC 27001", "800-53", "CSF 2.0", "PCI DSS", "HIPAA", "DORA", "NIS2", "CIS"):
        assert any(name in f for f in frameworks), name
    for name in ("LGPD", "CMN 4.893", "BCB 538"):
        assert any(name in f for f in frameworks), name
    assert {f for c in mapping()["controls"] for f in c["facts"]} == set(mapping()["facts"])


def test_an_unsigned_record_is_called_so() -> None:
    evidence = samples.evidence(samples.postgres())
    evidence["ledger"] |= {"signed": False, "keyid": None}
    assert "The record is not signed" in render(evidence)
    assert "stands in no ledger" in render(evidence | {"ledger": None})


def test_numbers_times_and_amounts_of_both_languages() -> None:
    en, pt = words("en"), words("pt-BR", "America/Sao_Paulo")
    assert (en.number(1234567.5), pt.number(1234567.5)) == ("1,234,568", "1.234.568")
    assert (en.number(1.25), pt.number(1.25)) == ("1.25", "1,25")
    assert en.number(None) == "—"
    assert en.time("2026-11-24T02:00:00Z") == "24 Nov 2026, 02:00:00 UTC"
    assert pt.time("2026-11-24T02:00:00Z") == (
        "23 de nov. 2026, 23:00:00 UTC−03:00 (24 de nov. 2026, 02:00:00 UTC)"
    )
    assert (
        words("en", "Asia/Kathmandu")
        .time("2026-11-24T02:00:00Z")
        .startswith("24 Nov 2026, 07:45:00 UTC+05:45")
    )
    assert [en.duration(s) for s in (None, 0.0001, 0.04, 3.25, 61, 3600, 90000, 5 * 86400 + 7200, -30)] == [
        "—",
        "< 1 ms",
        "40 ms",
        "3.2 s",
        "1 min 1 s",
        "1 h",
        "25 h",
        "5 d 2 h",
        "−30 s",
    ]
    assert (en.size(0), en.size(1536), pt.size(3 << 30)) == ("0 bytes", "1.5 KiB", "3,0 GiB")
    assert (en.percent(0.00001), en.percent(0.0123), en.percent(2)) == ("< 0.01%", "1.2%", "200%")
    assert words("en", "No/Where").zone is None


def test_invisible_characters_are_written_out() -> None:
    assert visible("plain text, ação ✓") == "plain text, ação ✓"
    assert visible("a\u202eb\x00\u200b\ud800") == "a⟨U+202E⟩b⟨U+0000⟩⟨U+200B⟩⟨U+D800⟩"
    for name in samples.HOSTILE:
        assert not set(visible(name)) & set("\u202e\x00\x1b\u2066\u2069\u200b")
    html = render(samples.evidence(samples.hostile()))
    assert "<img" not in html
    assert "<script" not in html
    assert "49" not in re.findall(r"public\.&amp;lt;b&amp;gt;(.{0,20})", html)[0]
    html.encode()


def test_the_last_net_catches_secrets_in_any_string() -> None:
    Secret("canary-c0ffee-77")
    dirty = "postgres://app:s3cr3tpw@db/x canary-c0ffee-77 md5" + "a" * 32
    bad = samples.failing()
    finding = replace(bad.checks[3].findings[0], object=dirty, message=dirty, expected=dirty, remedy=dirty)
    results = tuple(replace(c, findings=(finding,)) if c.findings else c for c in bad.checks)
    evidence = samples.evidence(replace(bad, checks=results, unproven=(dirty,), facts={"tables": {dirty: 1}}))
    evidence["reason"] = evidence["tools"]["python"] = dirty  # past the net of evidence_json itself
    evidence["backups"][0]["findings"][0]["message"] = dirty
    for lang in ("en", "pt-BR"):
        page = render(evidence, lang)
        for canary in ("canary-c0ffee-77", "s3cr3tpw", "a" * 32):
            assert canary not in page
    assert harmless({"canary-c0ffee-77": ["canary-c0ffee-77"]}) == {"[redacted]": ["[redacted]"]}


def test_large_evidence_stays_small_and_quick() -> None:
    evidence = samples.evidence(samples.huge(1000, 10))
    render(samples.evidence(samples.postgres()))  # templates are compiled once per process
    began = time.process_time()  # of this process: the machine may be busy
    page = render(evidence)
    assert time.process_time() - began < 2
    assert len(page.encode()) <= 1_500_000
    assert page.count("warehouse_3.orders_partition_0500") >= 3 + 1  # each failed check, and the matrix


def test_ten_thousand_different_checks_are_all_named() -> None:
    one = samples.checks()[3]
    many = tuple(
        replace(one, id=f"user.check-{n:05d}", title=f"Check {n} of a user's own", status=status)
        for n in range(10_000)
        for status in [Status.FAIL if n % 100 == 0 else Status.PASS]
    )
    page = render(samples.evidence(samples.postgres(checks=many)), "pt-BR")
    assert len(page.encode()) <= 1_500_000
    assert len(set(re.findall(r"user\.check-\d{5}", page))) == 10_000
    assert page.count('<td class="x">falhou</td>') == 100


def test_the_waterfall_begins_each_stage_where_the_last_ended() -> None:
    rows = view.stages(samples.evidence(samples.postgres())["backups"][0])
    at = 0.0
    for row in rows:
        assert f'x="{min(300 * at, 298.5):.1f}"' in row.bar or row.share < 0.01
        at += row.share
    assert at == pytest.approx(1)


def test_trends_show_aborted_failed_and_missed_drills() -> None:
    evidence = samples.evidence(samples.postgres())
    rto, age = view.trends(evidence, evidence["backups"][0], Words())
    assert (rto.title, age.title) == ("Time to restore", "Backup age")
    verdicts = [row[1] for row in rto.rows]
    assert verdicts.count("missed") == 1
    assert verdicts.count("aborted") == 1
    assert verdicts.count("fail") == 1
    assert verdicts[-1] == "pass"
    for kind in ("pass", "fail", "aborted", "missed"):
        assert f'class="mark {kind}"' in rto.chart
    assert view.trends(evidence | {"history": []}, evidence["backups"][0], Words()) == []


def test_coverage_blames_the_table_a_part_belongs_to() -> None:
    backup = samples.evidence(samples.failing())["backups"][0]
    backup["checks"][6]["status"] = "fail"
    backup["checks"][6]["findings"] = [
        {**backup["findings"][0], "object": "public.webhooks.id (sequence)", "severity": "high"}
    ]
    columns, rows = view.coverage(backup)
    assert [c.key for c in columns] == ["schema", "data", "usability"]
    assert rows[0][0] == "public.email_logs"  # failed ones first
    cells = {name: marks for name, _, marks in rows}
    assert cells["public.email_logs"] == ["proven", "failed", "partly"]
    assert cells["public.webhooks"] == ["proven", "proven", "failed"]
    # the missing role may be any table's: no cell of that column is called proven
    assert cells["public.companies"] == ["proven", "proven", "partly"]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("public.t", "public.t"),
        ("public.t.id", "public.t"),
        ("public.t (pkey)", "public.t"),
        ("index i on public.t", "public.t"),
        ("COPY public.t", "public.t"),
        ("db0 string", "db0"),
        ("public.tt", None),
        ("the globals file", None),
        ("", None),
    ],
)
def test_an_object_belongs_to_the_table_it_is_part_of(name: str, owner: str | None) -> None:
    assert view._owner(name, {"public.t": 1, "db0": 2}) == owner


def test_redis_databases_are_covered_by_their_own_findings_only() -> None:
    backup = samples.evidence(samples.redis())["backups"][0]
    finding = {**samples.evidence(samples.failing())["backups"][0]["findings"][0], "object": "db1 hash"}
    backup["facts"] = {"keys_per_database": {"0": 5, "1": 7}}
    backup["checks"][1] |= {"status": "fail", "findings": [finding]}
    backup["checks"].append({**backup["checks"][1], "id": "redis.values", "status": "pass", "findings": []})
    _, rows = view.coverage(backup)
    assert rows == [("db1", "7", ["failed"]), ("db0", "5", ["proven"])]


def test_coverage_claims_nothing_for_what_no_check_told() -> None:
    backup = samples.evidence(samples.postgres())["backups"][0]
    for check in backup["checks"]:
        check["status"] = "not_run"
    _, rows = view.coverage(backup)
    assert {mark for _, _, marks in rows for mark in marks} == {"unproven"}


def test_drift_is_against_the_last_good_drill_only() -> None:
    backup = samples.evidence(samples.postgres())["backups"][0]
    assert view.drift(backup) == []
    tables = {**samples.TABLES, "public.companies": 84, "public.gone": 5}
    backup["last_good"] = {"finished_at": "2026-11-23T05:00:00Z", "facts": {"tables": tables}}
    assert [(d.name, d.before, d.now) for d in view.drift(backup)] == [
        ("public.gone", 5, 0),
        ("public.companies", 84, 42),
    ]


def test_no_backup_at_all_is_told_as_such() -> None:
    from harness.evidence.record import missing

    evidence = samples.evidence(missing(Path("backups"), "postgres", "nothing is there", samples.NOW))
    assert "Fail: there is no backup" in render(evidence)
    assert "Fail: there is no backup" in render(samples.evidence())
