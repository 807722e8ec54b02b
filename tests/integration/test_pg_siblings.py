"""Siblings of the public cases, by class of loss: what a second pair of eyes made to fool the judgement."""

from __future__ import annotations

import pytest
from test_pg_load import END, HEAD, failing, judged, toc  # noqa: F401

from harness.model import Severity

STARTED = "-- Started on 2026-11-20 02:00:00 UTC\n"
CLOCKED = toc("seen", "TABLE", "CREATE TABLE public.seen (at timestamp with time zone DEFAULT now());") + (
    "--\n-- Data for Name: seen; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    "COPY public.seen (at) FROM stdin;\n{}\n\\.\n\n"
)


@pytest.mark.parametrize("name", ["shop.sql", "email-gateway-daily-20261124-002838.sql"])
def test_the_time_inside_the_dump_judges_its_newest_row(name, judged) -> None:  # noqa: F811
    old, young = (
        judged(HEAD + STARTED + CLOCKED.format(row) + END, name)[0]
        for row in ("2026-11-17 02:00:00+00", "2026-11-20 01:00:00+00")
    )
    assert [f.observed for f in old.findings if f.check == "pg.newest-row"] == ["72 h"]
    assert not failing(young, (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL))
