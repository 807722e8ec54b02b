"""Every sentence of the reports has its Portuguese; what components say has it too, by pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import aspects, controls, html, period, text

ROOT = Path(html.__file__).parent
CALL = re.compile(r"""\bw\(\s*"((?:[^"\\]|\\.)*)\"""")
SAME = {"Redis", "PostgreSQL"}  # names, which no language changes


def own_sentences() -> Iterator[str]:
    """All that templates and code pass to the catalogue, and the tables of words behind them."""
    for file in (ROOT / "templates").glob("*.html"):
        yield from CALL.findall(file.read_text())
        yield from re.findall(r"""\bw\('([^']*)'""", file.read_text())
    for file in ROOT.glob("*.py"):
        yield from CALL.findall(file.read_text())
    for module in (html, aspects, controls, period):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, dict) and not name.startswith("_"):
                yield from (v for v in value.values() if isinstance(v, str))
    yield from (word for _, word in html.GONE)
    yield from controls.mapping()["facts"].values()
    for control in controls.mapping()["controls"]:
        yield from (control["title"], control["open"])
        if "Law" in control["framework"]:
            yield control["framework"]


def test_every_sentence_of_the_reports_is_translated() -> None:
    known = text.catalogue("pt-BR")
    said = {*own_sentences(), html.NEXT_STEP}
    lacking = sorted(s for s in said if s and s not in known and s not in SAME)
    assert not lacking, "\n".join(lacking)


def test_holes_and_marks_survive_translation() -> None:
    for source, said in text.catalogue("pt-BR").items():
        assert sorted(re.findall(r"\{\d*\}", source)) == sorted(re.findall(r"\{\d*\}", said)), source
        assert source.strip() and said.strip()


def test_no_translation_is_left_over() -> None:
    """The report's own catalogue holds nothing that no template or code says any more."""
    own = text.read_po((ROOT / "locale" / "pt-BR.po").read_text(encoding="utf-8"))
    assert sorted(set(own) - set(own_sentences()) - {html.NEXT_STEP}) == []


def test_a_catalogue_that_is_none_is_refused() -> None:
    assert text.read_po('# x\nmsgid "a"\nmsgstr ""\n"b"\n"c"\n\nmsgid "n"\nmsgstr ""\n') == {"a": "bc"}
    with pytest.raises(ValueError, match="line 1"):
        text.read_po("hello")
