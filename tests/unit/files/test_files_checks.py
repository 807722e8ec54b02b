"""Every check of configuration backups: a good folder passes, each break is named, nothing else is."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.errors import ArtifactError, ToolError
from harness.files.facts import capture_facts
from harness.model import Status

from .judging import COMPOSE, ENV, NGINX, judged, made, told


def failed(results: Mapping[str, object]) -> set[str]:
    return {
        k for k, r in results.items() if getattr(r, "status", None) not in (None, Status.PASS, Status.NOT_RUN)
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "config-backups/20261124")


def test_a_folder_in_order_passes_and_only_what_has_no_basis_is_not_run(folder: Path, tmp_path: Path) -> None:
    results = judged(folder, tmp_path / "s")
    assert not failed(results)
    assert {k for k, r in results.items() if getattr(r, "status", None) is Status.NOT_RUN} == {
        "files.manifest",
        "files.redis-conf",
        "files.secrets-escrow",
    }
    loud = [f for r in results.values() if hasattr(r, "findings") for f in r.findings]
    assert {(f.check, f.object) for f in loud} == {("files.secrets-accounted", "DB_PASSWORD")}


def test_nothing_of_the_restored_copy_is_left(folder: Path, tmp_path: Path) -> None:
    judged(folder, tmp_path / "s")
    assert not (tmp_path / "s/restored").exists()


def test_a_tarball_is_judged_like_its_folder(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config-backup-20261124.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "20261124")
    assert not failed(judged(path, tmp_path / "s"))
    (folder / "scripts/backup.sh").chmod(0o644)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "./")
    assert failed(judged(path, tmp_path / "s2")) == {"files.script-modes"}


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


BREAKS: dict[str, tuple[Callable[[Path], object], str, list[tuple[str, str]]]] = {
    "file missing": (
        lambda f: (f / "docker-compose.yml").unlink(),
        "files.present",
        [("critical", "docker-compose.yml")],
    ),
    "link out": (lambda f: (f / "x").symlink_to("/etc/hostname"), "files.readable", [("critical", "x")]),
    "link to nothing": (lambda f: (f / "x").symlink_to("gone"), "files.readable", [("critical", "x")]),
    "FIFO": (lambda f: os.mkfifo(f / "pipe"), "files.readable", [("critical", "pipe")]),
    "nginx cut": (
        write("nginx.conf", NGINX[:-10]),
        "files.nginx-syntax",
        [("critical", "nginx.conf:8")],
    ),
    "nginx semicolon": (
        write("nginx.conf", NGINX.replace("listen 443 ssl;", "listen 443 ssl")),
        "files.nginx-syntax",
        [("critical", "nginx.conf:4")],
    ),
    "nginx slip": (
        write("nginx.conf", NGINX.replace("proxy_pass", "proxy_passs")),
        "files.nginx-syntax",
        [("critical", "nginx.conf:8")],
    ),
    "nginx no events": (
        write("nginx.conf", NGINX.replace("events {}", "# nada")),
        "files.nginx-syntax",
        [("critical", "nginx.conf")],
    ),
    "nginx names what is not there": (
        write("nginx.conf", NGINX.replace("ssl/site.key", "ssl/outra.key")),
        "files.nginx-references",
        [("high", "nginx.conf:7")],
    ),
    "compose tab": (
        write("docker-compose.yml", COMPOSE + "\tx: 1\n"),
        "files.compose",
        [("critical", "docker-compose.yml:13")],
    ),
    "compose key twice": (
        write("docker-compose.yml", COMPOSE.replace("    image: postgres:15", "    image: a\n    image: b")),
        "files.compose",
        [("critical", "docker-compose.yml:10")],
    ),
    "compose unknown key": (
        write("docker-compose.yml", COMPOSE.replace("depends_on", "dependson")),
        "files.compose",
        [("critical", "docker-compose.yml services.api")],
    ),
    "compose wrong shape": (
        write("docker-compose.yml", COMPOSE.replace("image: postgres:15", "image: [postgres]")),
        "files.compose",
        [("critical", "docker-compose.yml services.db")],
    ),
    "compose no service": (
        write("docker-compose.yml", "services:\n  api\n"),
        "files.compose",
        [("critical", "docker-compose.yml")],
    ),
    "compose depends on nothing": (
        write("docker-compose.yml", COMPOSE.replace("depends_on: [db]", "depends_on: [cache]")),
        "files.compose",
        [("high", "docker-compose.yml services.api")],
    ),
    "compose volume undeclared": (
        write("docker-compose.yml", COMPOSE.replace("volumes:\n  dados:\n", "")),
        "files.compose",
        [("high", "docker-compose.yml services.db")],
    ),
    "variable not in the template": (
        write(".env.example", ENV.replace("DB_PASSWORD=\n", "")),
        "files.env-complete",
        [("high", "DB_PASSWORD")],
    ),
    "template with a broken line": (
        write(".env.example", ENV + "ISTO NÃO É VARIÁVEL\n"),
        "files.env-complete",
        [("high", ".env.example:5")],
    ),
    "template with an open quote": (
        write(".env.example", ENV.replace("info", "'info")),
        "files.env-complete",
        [("high", ".env.example:3")],
    ),
    "script cut": (
        write("scripts/backup.sh", "#!/bin/sh\nif true; then\necho"),
        "files.script-syntax",
        [("critical", "scripts/backup.sh:3")],
    ),
    "script Windows": (
        write("scripts/backup.sh", "#!/bin/sh\r\necho\r\n"),
        "files.script-syntax",
        [("critical", "scripts/backup.sh:1")],
    ),
    "script no run bit": (
        lambda f: (f / "scripts/backup.sh").chmod(0o644),
        "files.script-modes",
        [("high", "scripts/backup.sh")],
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_break_is_named_by_its_check_and_by_no_other(name: str, folder: Path, tmp_path: Path) -> None:
    change, check, findings = BREAKS[name]
    change(folder)
    results = judged(folder, tmp_path / "s")
    assert told(results, check) == findings
    assert failed(results) == {check}


def bash_script(folder: Path) -> None:
    path = folder / "scripts/guardar"
    path.write_text("#!/usr/bin/env bash\na=(1 2)\n[[ $x == !(a|b) ]] && echo\n")
    path.chmod(0o755)


GOOD: dict[str, Callable[[Path], object]] = {
    "nginx: a site's part only, as conf.d takes it": write("nginx.conf", NGINX.split("http {\n")[1][:-3]),
    "nginx: newer directives": write(
        "nginx.conf", NGINX.replace("listen 443 ssl;", "listen 443 ssl; http2 on;")
    ),
    "nginx: map, geo, stream": write(
        "nginx.conf",
        NGINX.replace(
            "http {", 'stream { server { listen 53 udp; proxy_pass d:53; } }\nhttp { map $a $b { "~^x" 1; }'
        ),
    ),
    "compose: merge keys, tags, extensions": write(
        "docker-compose.yml",
        "x-base: &b\n  image: a\nservices:\n  api:\n    <<: *b\n    environment: [DB_PASSWORD, 'A=$$B']\n"
        "    ports: !override ['8080:80/udp', '${PORT:-1}:1', 9000-9001]\n    x-own: 1\n    restart: no\n",
    ),
    "compose: old version key": write("docker-compose.yml", "version: '3.8'\n" + COMPOSE),
    "compose: override without image": write(
        "docker-compose.prod.yml", "services:\n  api:\n    restart: always\n"
    ),
    "template: quotes over lines, YAML style, bare names": write(
        ".env.example", ENV + 'A=\'um\ndois\'\nB: x\nC\nD="it\\"s" # nota\n'
    ),
    "links that stay inside": lambda f: (f / "ssl/atual.crt").symlink_to("site.crt"),
    "a library to be sourced": write("scripts/lib.sh", "nome() { echo; }\n"),
    "bash arrays in bash": bash_script,
    "more files than required": write("notas.txt", "São Paulo\n"),
    "latin-1 text": lambda f: (f / "leia.conf").write_bytes("configuração".encode("latin-1")),
    "binary file": lambda f: (f / "logo.ico").write_bytes(bytes(range(256)) * 10),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_order_is_left_alone(name: str, folder: Path, tmp_path: Path) -> None:
    GOOD[name](folder)
    results = judged(folder, tmp_path / "s")
    assert not failed(results)
    checks = {
        f.check for r in results.values() if hasattr(r, "findings") for f in r.findings if f.severity.rank
    }
    assert checks <= {"files.secrets-accounted"}


def test_the_runbooks_list_counts_when_nothing_is_declared(folder: Path, tmp_path: Path) -> None:
    results = judged(folder, tmp_path / "s", {"files": {}})
    assert told(results, "files.present") == [
        ("high", "redis.conf"),
        ("high", "docker-compose.prod.yml"),
        ("high", "env-template.txt"),
    ]


def test_an_empty_file_is_named_although_it_is_there(folder: Path, tmp_path: Path) -> None:
    (folder / ".env.example").write_text("")
    results = judged(folder, tmp_path / "s")
    assert told(results, "files.readable") == [("critical", ".env.example")]
    assert results["files.present"].status is Status.PASS


def test_a_manifest_tells_changed_lost_and_added_files(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    head: dict[str, object] = {
        "schema": "provado/manifest/1",
        "component": "files",
        "source": {},
        "snapshot": None,
    }
    data = head | {
        "captured_at": "2026-11-24T00:00:00+00:00",
        "artifact": None,
        "facts": capture_facts(folder),
    }
    path.write_text(json.dumps(data))
    results = judged(folder, tmp_path / "s1", manifest=path)
    assert results["files.manifest"].status is Status.PASS
    assert not results["files.manifest"].findings
    (folder / "docker-compose.yml").write_text(COMPOSE.replace("acme/api:1", "acme/api:2"))
    (folder / "ssl/site.key").unlink()
    (folder / "scripts/backup.sh").chmod(0o644)
    (folder / "novo.txt").write_text("x")
    (folder / ".env.example").chmod(0o600)
    results = judged(folder, tmp_path / "s2", manifest=path)
    assert told(results, "files.manifest") == [
        ("critical", "docker-compose.yml"),
        ("high", "scripts/backup.sh"),
        ("critical", "ssl/site.key"),
        ("medium", "novo.txt"),
    ]


def test_an_empty_manifest_proves_nothing(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps(
            {"schema": "provado/manifest/1", "component": "files", "source": {}, "facts": {"files": {}}}
            | {"captured_at": "2026-11-24T00:00:00+00:00"}
        )
    )
    results = judged(folder, tmp_path / "s", manifest=path)
    assert results["files.manifest"].status is Status.NOT_RUN
    assert results["blocking"]


def test_what_is_no_backup_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "20261124").mkdir()
    with pytest.raises(ArtifactError, match="no file"):
        judged(tmp_path / "20261124", tmp_path / "s")
    path = tmp_path / "config-backup-1.tar.gz"
    path.write_bytes(gzip.compress(b"SELECT 1;" * 500))
    with pytest.raises(ArtifactError, match="tar"):
        judged(path, tmp_path / "s")
    path.write_bytes(gzip.compress(b"x" * 5000)[:-30])
    with pytest.raises(ArtifactError, match="gzip"):
        judged(path, tmp_path / "s")


def test_a_hostile_tarball_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config-backup-20261124.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("20261124/nginx.conf")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        out = tarfile.TarInfo("20261124/ssl/site.crt")
        out.type, out.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(out)
    with pytest.raises(ArtifactError, match="link"):
        judged(path, tmp_path / "s")


def test_more_than_a_configuration_may_take_is_not_judged_here(folder: Path, tmp_path: Path) -> None:
    for key in ("max_bytes", "max_files"):
        with pytest.raises(ToolError, match=key):
            judged(folder, tmp_path / "s", {"files": {key: 3}})


def test_a_circle_of_links_ends(folder: Path, tmp_path: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert ("critical", "a") in told(judged(folder, tmp_path / "s"), "files.readable")


def test_compose_alias_bombs_and_deep_nesting_end(folder: Path, tmp_path: Path) -> None:
    levels = "".join(f"x-{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    (folder / "docker-compose.yml").write_text("x-0: &a0 [x]\n" + levels + COMPOSE)
    (folder / "nginx.conf").write_text("http {" * 2000)
    results = judged(folder, tmp_path / "s")
    assert results["files.compose"].status is Status.PASS
    assert results["files.nginx-syntax"].status is Status.FAIL
