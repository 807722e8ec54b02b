from __future__ import annotations

import json

import pytest
from make_sample import PAGES, SAMPLE

from harness.report.html import render


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_sample_is_what_its_evidence_renders_to(name: str) -> None:
    """After a change of the reports: `python tests/make_sample.py`."""
    evidence = json.loads((SAMPLE / "evidence.json").read_bytes())
    assert (SAMPLE / name).read_text(encoding="utf-8") == render(evidence, PAGES[name])


def test_the_sample_names_no_machine() -> None:
    text = (SAMPLE / "evidence.json").read_text(encoding="utf-8")
    for place in ("/work/", "/home/", "/root/", '"/', "file:/"):
        assert place not in text
