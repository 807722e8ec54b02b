from __future__ import annotations

import re
from typing import Any

import report_samples as samples

from harness.report.period import render_index, render_period


def period(**changes: Any) -> dict[str, Any]:
    drills = [
        {
            "number": d["drill"],
            "started_at": d["at"],
            "verdict": d["verdict"],
            "reason": None,
            "records": f"{d['drill']}",
            "backups": d["backups"],
            "notes": [],
            "facts": None if d["verdict"] == "aborted" else ["restored", "file-whole"],
        }
        for d in samples.past(11)
    ]
    ledger = {"exit_code": 0, "head": "24:" + "ab" * 32, "signed": True, "problems": []}
    edges = {"since": "2026-10-20T00:00:00Z", "until": "2026-11-24T06:00:00Z"}
    return {**edges, "made_at": "2026-11-24T06:00:00Z", "ledger": ledger, "drills": drills, **changes}


def rows(page: str) -> list[str]:
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", r)) for r in table.split("<tr>")[1:]]


def test_every_number_is_there_also_failed_aborted_and_missed() -> None:
    found = rows(render_period(period()))
    assert [int(r.split()[0]) for r in found if r.split()[0].isdigit()] == list(range(1, 12))
    assert sum("Aborted" in r for r in found) == 1
    assert sum("Fail" in r for r in found) == 1
    missed = [r for r in found if "Missed" in r]
    assert len(missed) == 1
    assert "no judged drill for 21 days" in missed[0]
    assert found.index(missed[0]) == 1  # between drill 1 and drill 2, where it happened


def test_the_edges_of_the_period_count_for_the_interval() -> None:
    late = render_period(period(since="2026-09-01T00:00:00Z", until="2026-12-31T00:00:00Z"))
    assert sum("Missed" in r for r in rows(late)) == 2  # before the first; after the last it is too early
    empty = render_period(period(drills=[]))
    assert "There is no drill in this period" in empty
    assert "not supported" in empty


def test_a_fact_of_only_some_drills_supports_in_part() -> None:
    some = period()
    some["drills"][2]["facts"] = []
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_period(some)))
    assert "SOC 2 (TSC 2017) A1.2" in page
    assert "supports in part" in page
    assert "in 9 of 10 judged drills" in page


def test_tampering_leads_the_report() -> None:
    bad = {"exit_code": 1, "head": None, "signed": True, "problems": ["record 3 was edited <b>"]}
    page = render_period(period(ledger=bad), "pt-BR")
    assert "adulterado" in page.split("</section>")[0]
    assert "record 3 was edited &lt;b&gt;" in page
    unknown = render_period(period(ledger={**bad, "exit_code": 3, "problems": []}))
    assert "no trusted key was given" in unknown.split("</section>")[0]


def test_the_index_links_every_finished_drill() -> None:
    page = render_index(samples.past(11))
    assert re.findall(r'href="(drills/[^"]+)"', page) == [
        f"drills/{n:06d}/report.html" for n in range(11, 0, -1) if n != 4
    ]
