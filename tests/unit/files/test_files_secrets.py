"""Secrets: canaries are caught and never printed; what looks like one and is none is left alone; escrow."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.cli import run
from harness.errors import ConfigError, ToolError
from harness.escrow import fingerprint, fingerprints, run_probe
from harness.files.secret_scan import scan
from harness.model import Status
from harness.redact import Secret
from harness.settings.files import DecryptProbe, SecretsSettings

from .judging import ENV, everything, judged, made, private_pem, told

# Put together here, so that no scanner of this repository takes them for real ones.
CANARIES = {
    "AWS": ("an AWS access key", "AKIA" + "QYLPMN5HHHFPZAM2"),
    "JWT": (
        "a JSON web token",
        "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n",
    ),
    "GitHub": ("a GitHub token", "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"),
    "Slack": ("a Slack token", "xoxb-" + "17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy"),
    "Stripe": ("a Stripe key", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"),
}


@pytest.mark.parametrize(
    ("name", "place"),
    list(
        zip(
            CANARIES,
            [".env.example", "docker-compose.yml", "scripts/backup.sh", "notas.txt", "nginx.conf"],
            strict=True,
        )
    ),
)
def test_tokens_are_caught_wherever_they_lie_and_never_printed(name: str, place: str, tmp_path: Path) -> None:
    kind, value = CANARIES[name]
    folder = made(tmp_path / "20261124")
    path = folder / place
    path.write_text((path.read_text() if path.exists() else "") + f"# {value}\n")
    line = len(path.read_text().splitlines())
    results = judged(folder, tmp_path / "s")
    assert told(results, "files.leaked-secrets") == [("high", f"{place}:{line}")]
    assert kind in results["files.leaked-secrets"].findings[0].message
    assert value not in everything(results)


def test_a_private_key_outside_ssl_is_caught(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    pem = private_pem()
    (folder / "deploy_key").write_bytes(pem)
    results = judged(folder, tmp_path / "s")
    assert told(results, "files.leaked-secrets") == [("high", "deploy_key:1")]
    assert pem.decode().splitlines()[1] not in everything(results)


@pytest.mark.parametrize(
    ("line", "sure"),
    [
        ("ENCRYPTION_KEY=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", True),
        ("SMTP_PASSWORD='kV8#pQz!2mLr9TxW'", True),
        ("export JWT_SECRET=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA==", True),
        ("DATABASE_URL=postgresql://app:Kq7vR2xP9s@db:5432/app", True),
        ("DB_PASSWORD=postgres", False),
        ("ALGO=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c", False),
        ("      REDIS_PASSWORD: h7Gk2pLq9sVx4Zt", True),
        ("      - API_TOKEN=h7Gk2pLq9sVx4Zt", True),
    ],
)
def test_values_in_templates_are_caught(line: str, sure: bool) -> None:
    assert [leak.sure for leak in scan(line, template=True)] == [sure]
    assert not any(leak.sure for leak in scan(line, template=False)) or "://" in line


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD=",
        'DB_PASSWORD=""',
        "DB_PASSWORD=changeme",
        "DB_PASSWORD=sua_senha_aqui",
        "DB_PASSWORD=your_password",
        "ENCRYPTION_KEY=<32 bytes em base64>",
        "ENCRYPTION_KEY=${ENCRYPTION_KEY}",
        "      REDIS_PASSWORD: ${REDIS_PASSWORD:?defina}",
        "DATABASE_URL=postgresql://postgres:${DB_PASSWORD}@postgres:5432/email_gateway",
        "DATABASE_URL=postgresql://user:password@localhost/db",
        "    image: redis@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "KEY_PATH=/etc/nginx/ssl/site.key",
        "PUBLIC_KEY=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9f86d081884c7d65",
        "LOG_LEVEL=info # nível",
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "APP_NAME=gateway-de-e-mail-da-padaria-pao-quente",
        "MAX_TOKENS=4096",
        "# DB_PASSWORD=h7Gk2pLq9sVx4Zt é um comentário",
    ],
)
def test_placeholders_and_public_values_are_left_alone(line: str) -> None:
    assert list(scan(line, template=True)) == []


def declared(tmp_path: Path, value: str = "chave-certa", expected: str | None = None) -> dict[str, object]:
    (tmp_path / "k").write_text("chave das impressões")
    (tmp_path / "escrow").write_text(value)
    right = fingerprint(Secret(expected or value), Secret("chave das impressões"))
    required = [{"name": "DB_PASSWORD", "escrow": f"file:{tmp_path / 'escrow'}", "fingerprint": right}]
    return {"secrets": {"fingerprint_key": f"file:{tmp_path / 'k'}", "required": required}}


def test_the_right_secret_in_escrow_passes(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    results = judged(folder, tmp_path / "s", declared(tmp_path))
    assert results["files.secrets-escrow"].status is Status.PASS
    assert results["files.secrets-escrow"].findings == ()
    assert results["files.secrets-accounted"].findings == ()


def test_another_secret_in_escrow_fails_and_neither_is_printed(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    settings = declared(tmp_path, "chave-errada", "chave-certa")
    results = judged(folder, tmp_path / "s", settings)
    assert told(results, "files.secrets-escrow") == [("critical", "DB_PASSWORD")]
    assert "chave-errada" not in everything(results)
    assert "chave-certa" not in everything(results)


def test_an_empty_or_missing_escrow_fails(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    settings = declared(tmp_path)
    (tmp_path / "escrow").write_text("\n")
    assert told(judged(folder, tmp_path / "s1", settings), "files.secrets-escrow") == [
        ("critical", "DB_PASSWORD")
    ]
    (tmp_path / "escrow").unlink()
    assert told(judged(folder, tmp_path / "s2", settings), "files.secrets-escrow") == [
        ("critical", "DB_PASSWORD")
    ]


def test_an_escrow_that_cannot_be_looked_into_here_makes_no_verdict(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    settings = {"secrets": {"required": [{"name": "DB_PASSWORD", "escrow": "env:PROVADO_TEST_NOT_SET"}]}}
    results = judged(folder, tmp_path / "s", settings)
    assert results["files.secrets-escrow"].status is Status.NOT_RUN
    assert results["blocking"]


def test_a_secret_without_fingerprint_is_only_shown_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "20261124")
    monkeypatch.setenv("PROVADO_TEST_SECRET", "algum-valor-qualquer")
    settings = {"secrets": {"required": [{"name": "DB_PASSWORD", "escrow": "env:PROVADO_TEST_SECRET"}]}}
    results = judged(folder, tmp_path / "s", settings)
    assert told(results, "files.secrets-escrow") == [("medium", "DB_PASSWORD")]
    assert results["files.secrets-escrow"].status is Status.PASS


def test_what_the_runbooks_grep_drops_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    (folder / ".env.example").write_text(ENV + "ENCRYPTION_KEY=\nSMTP_HOST=x\n")
    results = judged(folder, tmp_path / "s")
    assert told(results, "files.secrets-accounted") == [
        ("medium", "DB_PASSWORD"),
        ("medium", "ENCRYPTION_KEY"),
    ]
    assert "unreadable" in results["files.secrets-accounted"].findings[1].message


def probing(tmp_path: Path, **how: object) -> tuple[DecryptProbe, SecretsSettings]:
    (tmp_path / "escrow").write_text("7")
    required = [{"name": "K", "escrow": f"file:{tmp_path / 'escrow'}"}]
    probe = {"name": "soma", "secret": "K", "query": "SELECT 1", **how}
    settings = SecretsSettings.model_validate({"required": required, "probes": [probe]})
    return settings.probes[0], settings


def test_a_probe_by_callable_counts_what_does_not_decrypt(tmp_path: Path) -> None:
    name = f"sonda_{secrets.token_hex(4)}"
    (tmp_path / f"{name}.py").write_text("def abre(texto, chave):\n    return int(texto) % int(chave) == 0\n")
    probe, settings = probing(tmp_path, callable=f"{name}:abre")
    assert run_probe(probe, settings, ["14", "21"], folder=tmp_path) == 0
    assert run_probe(probe, settings, ["14", "15", "lixo"], folder=tmp_path) == 2
    assert str(tmp_path) not in sys.path
    absent, settings = probing(tmp_path, callable=f"{name}:fecha")
    with pytest.raises(ConfigError, match="not there"):
        run_probe(absent, settings, ["1"], folder=tmp_path)


def test_a_probe_by_command_gets_ciphertext_and_secret_outside_its_arguments(tmp_path: Path) -> None:
    script = "read c; test $((c % PROVADO_SECRET)) = 0"
    probe, settings = probing(tmp_path, command=["sh", "-c", script])
    assert run_probe(probe, settings, ["14", "15", "21"]) == 1
    endless, settings = probing(tmp_path, command=["sleep", "30"], timeout=0.2)
    with pytest.raises(ToolError, match="did not finish"):
        run_probe(endless, settings, ["1"])


def test_declarations_that_contradict_themselves_are_refused() -> None:
    for wrong in (
        {"required": [{"name": "A", "escrow": "clear text"}]},
        {"required": [{"name": "A", "escrow": "env:A"}] * 2},
        {"required": [{"name": "A", "escrow": "env:A", "fingerprint": "hmac-sha256:" + "0" * 64}]},
        {"probes": [{"name": "p", "secret": "A", "query": "q", "command": ["x"]}]},
        {
            "required": [{"name": "A", "escrow": "env:A"}],
            "probes": [{"name": "p", "secret": "A", "query": "q"}],
        },
    ):
        with pytest.raises(ValidationError):
            SecretsSettings.model_validate(wrong)


def test_fingerprints_need_their_key(tmp_path: Path) -> None:
    settings = SecretsSettings.model_validate(declared(tmp_path)["secrets"])
    assert fingerprints(settings) == {"DB_PASSWORD": settings.required[0].fingerprint}
    with pytest.raises(ConfigError, match="fingerprint_key"):
        fingerprints(SecretsSettings())


def test_the_command_prints_what_provado_yaml_declares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets_section = declared(tmp_path)["secrets"]
    config = tmp_path / "provado.yaml"
    config.write_text(json.dumps({"secrets": secrets_section}))
    right = SecretsSettings.model_validate(secrets_section).required[0].fingerprint
    assert run(["fingerprint", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"DB_PASSWORD {right}\n"
    assert run(["fingerprint", f"file:{tmp_path / 'escrow'}", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{right}\n"
    config.write_text("lang: en\n")
    assert run(["fingerprint", "--config", str(config)]) == 2
