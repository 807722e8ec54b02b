"""What checks say (titles, findings, remedies, reasons) has its Portuguese, by sentence or by pattern.

Components change faster than catalogues: nine in ten must be there, and the rest is shown in English and
marked so. Run this file as a program to see what is missing.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import report_samples as samples

from harness.postgres.checks_manifest import _OPTIONS
from harness.report import html, text

HARNESS = Path(html.__file__).parents[1]
ROOMS = ("postgres", "redis", "files", "policy", "objectives.py", "waivers.py", "check.py", "drill.py")


def sentence(node: ast.AST | None) -> str | None:
    """A literal, or an f-string with holes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = (sentence(node.left), sentence(node.right))
        return None if sides == (None, None) else "".join("{}" if s is None else s for s in sides)
    return None


def said_in(tree: ast.AST) -> Iterator[str | None]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            declared = [
                d for d in node.decorator_list if getattr(getattr(d, "func", None), "id", "") == "check"
            ]
            if declared:
                yield (ast.get_docstring(node) or "").strip().splitlines()[0].rstrip(".")
                yield from (sentence(k.value) for k in declared[0].keywords if k.arg == "remedy")  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("finding", "Finding"):
                yield from (sentence(a) for a in node.args[1:])
                yield from (sentence(k.value) for k in node.keywords if k.arg in ("remedy", "message"))
            elif name == "NotRun":
                yield from (sentence(a) for a in node.args)


def sentences() -> set[str]:
    """Numbered holes; without what has hardly a word of its own."""
    found = set()
    for room in ROOMS:
        path = HARNESS / room
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            for said in said_in(ast.parse(file.read_text(encoding="utf-8"))):
                if said and " " in said and len(re.sub(r"\{\}|\W", "", said)) > 5:
                    count = itertools.count()
                    found.add(re.sub(r"\{\}", lambda _: f"{{{next(count)}}}", said))  # noqa: B023
    return found


def lacking() -> list[str]:
    return sorted(sentences() - set(text.evidence_catalogue("pt-BR")))


def test_nine_in_ten_sentences_of_the_checks_are_translated() -> None:
    every = sentences()
    assert len(every) > 200  # the harvest works
    assert len(lacking()) <= len(every) / 10, "\n".join(lacking())


def test_holes_survive_translation() -> None:
    for source, said in text.evidence_catalogue("pt-BR").items():
        assert sorted(re.findall(r"\{\d*\}", source)) == sorted(re.findall(r"\{\d*\}", said)), source


def test_patterns_are_filled_and_hostile_values_stay_what_they_are() -> None:
    pt = text.words("pt-BR")
    assert pt.said("the server evicted 12 keys") == ("o servidor despejou 12 chaves", "pt-BR")
    assert pt.said("{1} is not the key of {0}") == ("{1} não é a chave de {0}", "pt-BR")
    assert pt.said("never heard of") == ("never heard of", "en")
    assert text.words("en").said("is empty") == ("is empty", "en")


def test_what_has_no_translation_is_marked_as_english() -> None:
    page = html.render(samples.evidence(samples.failing()), "pt-BR")
    assert '<span lang="en">10 rows of the source are not in the backup' in page
    good = html.render(samples.evidence(samples.postgres(), samples.redis()), "pt-BR")
    assert "<p>Todos os 2 backups foram restaurados e comprovados.</p>" in good  # nor is Portuguese
    assert "faça um novo backup agora e guarde este para a investigação" in page


def test_what_a_dump_leaves_out_is_translated_whole() -> None:
    said = text.Words("pt-BR").said
    for lacks, remedy in _OPTIONS.values():
        found, lang = said(f"the backup does not hold {lacks} (3 objects, such as a, b)")
        assert lang == "pt-BR" and lacks not in found
        assert said(remedy)[1] == "pt-BR", remedy


if __name__ == "__main__":
    sys.stdout.write("\n".join(lacking()) + "\n")
