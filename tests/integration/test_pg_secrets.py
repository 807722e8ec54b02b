"""The decrypt probe: the escrowed secret against the samples' own encrypted column, and a wrong one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness import catalog, components
from harness.drill import drill
from harness.model import CheckResult, Status
from harness.settings import Settings, load_settings

FIXTURES = Path(__file__).parents[2] / "fixtures"
BACKUP = next(iter(sorted((FIXTURES / "backups").glob("*daily*.sql.gz"))))


def _probe(settings: Settings) -> CheckResult:
    found = catalog.find(BACKUP, components.recognisers())
    evidence = drill(dataclasses.replace(found[0], manifest=None), settings)
    return next(c for c in evidence.checks if c.id == "pg.secrets-decrypt")


def test_escrowed_key_reads_the_restored_column() -> None:
    assert _probe(load_settings(FIXTURES / "provado.yaml")).status is Status.PASS


def test_another_key_is_found_out_and_named(tmp_path: Path) -> None:
    wrong = tmp_path / "key"
    wrong.write_text("0" * 64)
    settings = load_settings(FIXTURES / "provado.yaml")
    required = tuple(
        s.model_copy(update={"escrow": f"file:{wrong}", "fingerprint": None})
        for s in settings.secrets.required
    )
    secrets = settings.secrets.model_copy(update={"required": required})
    result = _probe(settings.model_copy(update={"secrets": secrets}))
    assert result.status is Status.FAIL
    assert "does not decrypt 5 of 5" in result.findings[0].message
    assert "0" * 64 not in str(result)


def test_an_empty_answer_proves_nothing() -> None:
    settings = load_settings(FIXTURES / "provado.yaml")
    probes = tuple(
        p.model_copy(update={"query": "SELECT cpf_cnpj_enc FROM recipients WHERE false"})
        for p in settings.secrets.probes
    )
    result = _probe(
        settings.model_copy(update={"secrets": settings.secrets.model_copy(update={"probes": probes})})
    )
    assert result.status is Status.FAIL
