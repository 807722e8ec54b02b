"""Rows written as INSERT: what befalls a value on its way is seen; other ways to write it are not accused."""

import pytest
from live_servers import SETTINGS
from test_pg_load import END, HEAD, judged, toc  # noqa: F401

from harness.model import Verdict

TABLE = toc("t", "TABLE", "CREATE TABLE public.t (id int, s varchar(20), n numeric(8, 2), at timestamptz);")
ROWS = "INSERT INTO public.t VALUES (1, 'a', 1.50, '2026-01-01 10:00:00-03'), (2, NULL, NULL, NULL);\n"
SHOUT = toc(
    "shout()",
    "FUNCTION",
    "CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.s := upper(NEW.s); RETURN NEW; END $$;",
) + toc(
    "t shout",
    "TRIGGER",
    "CREATE TRIGGER shout BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.shout();",
)
CHANGED = {
    "by a trigger": TABLE + SHOUT + ROWS,
    "by a later statement": TABLE + ROWS + "UPDATE public.t SET n = 7 WHERE id = 1;\n",
    "one lost, one twice": TABLE
    + ROWS
    + "DELETE FROM public.t WHERE id = 2;\n"
    + "CREATE TABLE public.x AS SELECT * FROM public.t;\n"
    + "DO $$ BEGIN EXECUTE 'INSERT INTO public.t SELECT * FROM public.x'; END $$;\n",
}
GOOD = {
    "as pg_dump writes it": ROWS,
    "numbers, dates and names of columns by hand": "INSERT INTO public.t (ID, n, s, at)"
    " VALUES ('1', 1.500001, 'ab', '1 Feb 2026 10:00 UTC'), (2, 1e2, '', 'infinity');\n",
    "columns in another order": "INSERT INTO public.t (id, s) VALUES (1, 'a');\n"
    "INSERT INTO public.t (s, id) VALUES ('b', 2);\n",
    "a rounded number in the column that it fits": "INSERT INTO public.t (id, n) VALUES (1, 2.999);\n",
}
UNCOMPARED = {
    "computes": "INSERT INTO public.t VALUES (1, 'a', 1 + 1, now());\n",
    "of another type": "INSERT INTO public.t (id, s) VALUES (1, true);\n",
    "other columns": "INSERT INTO public.t (id) VALUES (1);\nINSERT INTO public.t (id, s) VALUES (2, 'b');\n",
    "beside COPY": "INSERT INTO public.t (id) VALUES (1);\nCOPY public.t (id, s) FROM stdin;\n2\tb\n\\.\n",
    "not take as text": "INSERT INTO public.t (id) VALUES (1.4);\n",
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_changed_value(how, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + CHANGED[how] + END)
    assert verdict is Verdict.FAIL
    assert [f.object for f in evidence.findings if f.check == "pg.row-content"] == ["public.t"]
    assert not [f for f in evidence.findings if f.check == "pg.row-counts"]


@pytest.mark.parametrize("how", GOOD)
def test_other_ways_to_write_it(how, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + TABLE + GOOD[how] + END, settings=SETTINGS)
    assert verdict is Verdict.PASS, evidence.findings
    assert not [r for r in evidence.unproven if "INSERT" in r]


@pytest.mark.parametrize("why", UNCOMPARED)
def test_what_could_not_be_compared_is_said(why, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + TABLE + UNCOMPARED[why] + END)
    assert verdict is Verdict.PASS, evidence.findings
    [said] = [r for r in evidence.unproven if "INSERT" in r]
    assert said.startswith("public.t: ") and why in said and "not compared" in said
