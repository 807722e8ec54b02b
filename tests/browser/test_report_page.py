"""report.html in a real browser: readable by everyone, silent on the network, deaf to hostile names."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest
import report_samples as samples

from harness.report.html import render
from harness.report.period import render_index, render_period

pytestmark = pytest.mark.slow

DRILLS = {
    "pass": lambda: samples.evidence(samples.postgres()),
    "fail": lambda: samples.evidence(samples.failing()),
    "inconclusive": lambda: samples.evidence(samples.blocked()),
    "several": lambda: samples.evidence(
        samples.redis(),
        samples.failing(),
        samples.blocked(),
        wider=(samples.KEPT,),
        runbook=(samples.SECTION, {**samples.SECTION, "target": None, "results": {}}),
    ),
}


def period() -> dict[str, Any]:
    drills = [
        {
            "number": d["drill"],
            "started_at": d["at"],
            "verdict": d["verdict"],
            "reason": "it was lost",
            "records": "1",
            "backups": d["backups"],
            "notes": [
                {"note": "review", "by": "ana", "at": d["at"], "text": "seen", "link": "", "reason": ""}
            ],
            "facts": None if d["verdict"] == "aborted" else ["restored", "data-compared"],
        }
        for d in samples.past(11)
    ]
    ledger = {"exit_code": 0, "head": "24:" + "ab" * 32, "signed": True, "problems": []}
    edges = {"since": "2026-08-24T00:00:00Z", "until": "2026-11-24T05:00:07Z"}
    return {**edges, "made_at": "2026-11-24T05:00:07Z", "ledger": ledger, "drills": drills}


def pages(lang: str) -> dict[str, str]:
    made = {name: render(build(), lang) for name, build in DRILLS.items()}
    made["hostile"] = render(samples.evidence(samples.hostile()), lang)
    made["period"] = render_period(period(), lang, "America/Sao_Paulo")
    made["index"] = render_index(samples.past(11), lang)
    return made


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("light", "print")])
def test_axe_finds_no_violation(lang: str, scheme: str, media: str, opened: Callable[..., Any]) -> None:
    """The page's own policy forbids scripts, so axe goes in by the debugger. One page holds every kind of
    backup; of the other verdicts' banners only the contrast is new, and that in no language."""
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    everything = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"
    contrast = "{runOnly: {type: 'rule', values: ['color-contrast']}, resultTypes: ['violations']}"
    made = pages(lang)
    looked_at = [("several", everything)]
    if lang == "en":
        looked_at.append(("pass", contrast))
    if (lang, scheme, media) in (("en", "light", "screen"), ("pt-BR", "dark", "screen")):
        looked_at += [("period", everything), ("inconclusive", contrast)]
    for name, options in looked_at:
        with opened(made[name], scripts=True, scheme=scheme, media=media) as (page, _):
            page.evaluate(axe + "; 0")
            found = page.evaluate(f"axe.run(document, {options})")["violations"]
            told = [(v["id"], n["html"][:120], n["failureSummary"]) for v in found for n in v["nodes"][:3]]
            assert not told, (name, told)


def test_a_thousand_tables_open_without_script_and_without_network(opened: Callable[..., Any]) -> None:
    evidence = samples.evidence(samples.huge(1000, 10))
    render(samples.evidence(samples.postgres()))  # the templates are loaded once per process
    began = time.process_time()  # of this process: the machine may be busy
    html = render(evidence)
    assert time.process_time() - began < 2
    assert len(html.encode()) <= 1_500_000
    with opened(html) as (page, requests):
        assert page.locator("h1").inner_text().startswith("Fail")
        assert page.locator("table.matrix tbody tr").count() == 1000
        assert [r for r in requests if not r.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", ["several", "period", "index"])
def test_no_request_leaves_the_page(name: str, opened: Callable[..., Any]) -> None:
    with opened(pages("en")[name], scripts=True) as (page, requests):
        page.wait_for_load_state("networkidle")
        assert [r for r in requests if not r.startswith(("file:", "data:"))] == []
        assert page.evaluate("document.querySelectorAll('script,iframe,object,embed,form').length") == 0


def test_the_policy_stops_what_would_get_in(opened: Callable[..., Any]) -> None:
    """Were escaping ever to fail: a script, a picture or a style in the page still does nothing."""
    html = render(samples.evidence(samples.postgres()))
    evil = (
        "<img src='http://127.0.0.1:9/x' onerror=\"document.title='owned'\">"
        "<script>document.title='owned'</script><style>h1{display:none}</style>"
    )
    with opened(html.replace("<main", evil + "<main", 1), scripts=True) as (page, _):
        page.wait_for_timeout(300)
        assert "owned" not in page.title()
        assert page.locator("h1").is_visible()


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
def test_hostile_names_are_shown_and_do_nothing(lang: str, opened: Callable[..., Any]) -> None:
    with opened(render(samples.evidence(samples.hostile()), lang), scripts=True) as (page, requests):
        page.wait_for_timeout(200)
        assert "owned" not in page.title()
        text = page.locator("main").inner_text()
        assert "<img src=x onerror=document.title='owned'>" in text
        assert "public.⟨U+202E⟩gnp.exe" in text
        assert "a⟨U+0000⟩b⟨U+001B⟩[31m⟨U+0007⟩" in text
        assert "{{ 7 * 7 }}" in text
        assert not set(text) & set("\u202e\u2066\u2069\u200b\x1b\x07")
        assert page.locator("main img").count() == 0
        assert [r for r in requests if not r.startswith(("file:", "data:"))] == []


def test_the_verdict_is_seen_first(opened: Callable[..., Any]) -> None:
    """Above the fold, largest of all, with a word and a shape: colour alone says nothing."""
    for name, build in DRILLS.items():
        with opened(render(build())) as (page, _):
            box = page.locator("h1").bounding_box()
            assert box and box["y"] + box["height"] < 300, name
            assert page.locator(".verdict svg").bounding_box()["width"] > 50


def test_narrow_screens_scroll_only_tables(opened: Callable[..., Any]) -> None:
    with opened(render(DRILLS["several"]()), scripts=True) as (page, _):
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_print_shows_what_the_screen_folds(opened: Callable[..., Any]) -> None:
    with opened(render(DRILLS["pass"]()), media="print") as (page, _):
        table = page.locator("details table").first
        assert table.is_visible()
        assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"
