"""Configuration that breaks in ways other than the obvious ones, and what looks odd and is fine."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from harness.files.redis_conf import directives, static_trouble
from harness.files.secret_scan import scan

from .judging import COMPOSE, NGINX, everything, judged, made, told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made(tmp_path / "config-backups/20261124")


PLACE = "location / {"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listen 443 ssl;", "listen 443 ssl; listen 443;"),
        ("listen 443", "listen 99999"),
        (PLACE, "location / { return 200; } " + PLACE),
        ("http://api:3000", "htp://api:3000"),
        ("http://api:3000", "api:3000"),
        ("events {}", "events {} events {}"),
        ("listen 443", "client_max_body_size 10Q; listen 443"),
        ("listen 443", "keepalive_timeout abc; listen 443"),
        ("events {}", "worker_processes many; events {}"),
        (PLACE, 'location ~ "([" {'),
        ("listen 443", "root /a; root /b; listen 443"),
        ("listen 443", "ssl_protocols TLSv9; listen 443"),
        ("http {", "http { upstream u {} "),
        (PLACE, "location /x { return 9999; } " + PLACE),
        ("listen 443", "limit_req zone=nope; listen 443"),
        ("listen 443", "access_log /x nope; listen 443"),
        ("ssl_certificate_key /etc/nginx/ssl/site.key;", ""),
        ("ssl_certificate /etc/nginx/ssl/site.crt;", ""),
        (PLACE, PLACE + " rewrite ^ / wrong;"),
        (PLACE, PLACE + " allow 300.1.1.1;"),
        (PLACE, PLACE + " proxy_set_header Connection $connection_upgrade;"),
        (PLACE, PLACE + " proxy_set_header Host $hots;"),
        ("http {", "http { upstream u { server 10.0.0.1; } upstream u { server 10.0.0.2; } "),
        ("http {", "http { log_format m 'a'; log_format m 'b'; "),
        ("http {", "http { limit_conn_zone $host zone=z:1m; limit_conn_zone $uri zone=z:1m; "),
        ("http {", "http { limit_req_zone $host zone=z:1m rate=5r/h; "),
        ("http {", "http { server { listen 81 default_server; } server { listen 81 default_server; } "),
        ("http {", "http { error_log /tmp/e loud; "),
        ("http {", "http { gzip_comp_level 10; "),
        ("http {", "http { map $uri m { default 1; } "),
        (PLACE, "location /a { location /b { return 200; } } " + PLACE),
        (PLACE, "location =/a { location /a/b { return 200; } } " + PLACE),
        (PLACE, "location /a { location @b { return 200; } } " + PLACE),
        (PLACE, "location + /a { return 200; } " + PLACE),
        (PLACE, "location ~ a { proxy_pass http://127.0.0.1/x; } " + PLACE),
        (PLACE, "location @a { proxy_pass http://127.0.0.1/; } " + PLACE),
        (PLACE, PLACE + " proxy_pass http://127.0.0.1:99999; } location /b {"),
        (PLACE, PLACE + " error_page 99 /x;"),
        (PLACE, PLACE + " satisfy one;"),
        (PLACE, PLACE + " add_header A $;"),
        (PLACE, PLACE + " set x 1;"),
        (PLACE, PLACE + " if ($host == a) { return 404; }"),
        (PLACE, PLACE + " rewrite ^/a( /b;"),
        ("server_name ", "server_name ~^( "),
        ("server_name ", "; server_name "),
    ],
)
def test_what_nginx_refuses_beyond_syntax(old: str, new: str, folder: Path, tmp_path: Path) -> None:
    """Each was held against `nginx -t` of 1.22."""
    assert old in NGINX
    (folder / "nginx.conf").write_text(NGINX.replace(old, new, 1))
    assert told(judged(folder, tmp_path / "s"), "files.nginx-syntax")[0][0] == "critical"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listen 443 ssl;", "listen 443 ssl; listen [::]:443 ssl; listen 443 quic; listen unix:/tmp/x.sock;"),
        ("listen 443 ssl;", "listen 443 ssl; keepalive_timeout 65 60; proxy_read_timeout 1h30m;"),
        ("listen 443 ssl;", "listen 443 ssl; client_max_body_size 0; send_timeout 500ms;"),
        (PLACE, "location ~ ^/(?<rest>.*)$ { return 301 /x/$rest; } " + PLACE),
        (PLACE, "location ~ (?<!a)b { return 200; } location ~ (?<!a)b { return 200; } " + PLACE),
        (PLACE, "location = / { return 200; } " + PLACE),
        (PLACE, PLACE + " allow 10.0.0.0/8; allow 2001:db8::/32; deny all;"),
        ("http {", "http { map $http_upgrade $connection_upgrade { default upgrade; } "
         "log_format m '$remote_addr $upstream_response_time'; access_log /tmp/q m buffer=32k; "),
        ("http {", "http { limit_req_zone $binary_remote_addr zone=a:10m rate=1r/s; limit_req zone=a; "),
        ("http {", "http { include /etc/nginx/conf.d/*.conf; access_log /x of_another_file; "),
        ("http {", "stream { server { listen 5432; proxy_pass db:5432; } } http {"),
        ("listen 443 ssl;", "listen 443 ssl; ssl_reject_handshake on;"),
        ("http {", "http { split_clients $remote_addr $v { 0.5% a; * b; } gzip_comp_level 9; "),
        ("http {", "http { server { listen 81 default_server; } server { listen 82 default_server; } "),
        ("http {", "http { map $uri $m { default 1; ~x$ 2; \\* 3; } "),
        (PLACE, "location ~a { return 200; } location ^~/c/ { location /c/d { return 200; } } " + PLACE),
        (PLACE, "location /z { location ~ y { return 200; } location =/z/w { return 200; } } " + PLACE),
        (PLACE, "location ~ n { proxy_pass http://unix:/a/b; } " + PLACE),
        (PLACE, PLACE + " error_page 404 /404.html; error_page 500 502 =503 @x; error_page 302 = /y;"),
        (PLACE, PLACE + ' if ($host != "") { return 200 "x$1 ${host}"; } add_header B 100%;'),
        (PLACE, PLACE + ' rewrite ^/a$ /b? break; rewrite "^/(\\d{1,3})/(?!x)(.*)$" /$1;'),
        ("server_name ", "server_name ~^a$ ~^(?<x>b)\\.c$ "),
    ],
)  # fmt: skip
def test_what_nginx_takes(old: str, new: str, folder: Path, tmp_path: Path) -> None:
    (folder / "nginx.conf").write_text(NGINX.replace(old, new, 1))
    assert not told(judged(folder, tmp_path / "s"), "files.nginx-syntax")


def test_a_byte_order_mark_and_an_include(folder: Path, tmp_path: Path) -> None:
    text = NGINX.replace("http {", "http { include mime.types; include /etc/nginx/sites/own.conf;")
    (folder / "nginx.conf").write_bytes(b"\xef\xbb\xbf" + text.encode())
    results = judged(folder, tmp_path / "s")
    assert told(results, "files.nginx-syntax") == [("critical", "nginx.conf:1")]
    assert told(results, "files.nginx-references") == [("medium", "nginx.conf:2")]


SERVICE = "services:\n  a:\n    image: a:1\n"


@pytest.mark.parametrize(
    "text",
    [
        SERVICE + "    depends_on: {b: {condition: service_nice}}\n  b: {image: b}\n",
        SERVICE + "    depends_on: [b]\n  b:\n    image: b\n    depends_on: [a]\n",
        SERVICE + "    networks: [n]\n    network_mode: host\nnetworks: {n: }\n",
        SERVICE + "    restart: sometimes\n",
        SERVICE + '    command: "${LOG_LEVEL"\n',
        'services:\n  a:\n    image: "Acme/API:1"\n',
        SERVICE + "    ports: ['80:80:80:80']\n",
        SERVICE + "    ports: ['99999:80']\n",
        SERVICE + "    ports: ['127.0.0.1:80']\n",
        SERVICE + "    environment: [A: b]\n",
        SERVICE + "    healthcheck: {test: x, interval: 10}\n",
        SERVICE + "    healthcheck: {test: x, timeout: 10x}\n",
        SERVICE + "    restart: true\n",
        SERVICE + "    network_mode: service:nope\n",
        SERVICE + "    extends: {service: nope}\n",
        SERVICE + "    volumes_from: ['nope:ro']\n",
        SERVICE + "    ulimits: {nofile: {soft: 1}}\n",
        SERVICE + "    container_name: x\n  b:\n    image: b\n    container_name: x\n",
        SERVICE + "volumes: [a]\n",
    ],
)
def test_what_compose_refuses(text: str, folder: Path, tmp_path: Path) -> None:
    (folder / "docker-compose.yml").write_text(text)
    assert told(judged(folder, tmp_path / "s"), "files.compose")


def test_what_compose_takes(folder: Path, tmp_path: Path) -> None:
    text = "".join(
        f"  s{n}:\n    image: {image}\n    restart: {restart}\n    depends_on: {{x: {{condition: {how}}}}}\n"
        for n, (image, restart, how) in enumerate(
            [
                ("localhost:5000/a/b_c:1.2-x", "no", "service_started"),
                ("ghcr.io/Acme/api@sha256:" + "a" * 64, "on-failure:3", "service_healthy"),
                ('"${LOG_LEVEL}"', "unless-stopped", "service_completed_successfully"),
            ]
        )
    ).replace("Acme", "acme")
    (folder / "docker-compose.yml").write_text("services:\n  x: {image: redis}\n" + text)
    assert not told(judged(folder, tmp_path / "s"), "files.compose")


def test_more_that_compose_takes(folder: Path, tmp_path: Path) -> None:
    text = (
        SERVICE
        + """    ports: ['80:80', '127.0.0.1::81', '[::1]:6001:6001', '3000-3002:3000-3002/udp', 8080, ':82']
    healthcheck: {test: x, interval: 1m30s, timeout: "${T}", start_period: 0.5h}
    stop_grace_period: 10s
    ulimits: {nproc: 1, nofile: {soft: 1, hard: 2}}
    environment: [A=b, C]
    restart: no
  b:
    extends: {file: common.yml, service: base}
    network_mode: service:a
    volumes_from: ['a:ro', 'container:x']
    links: ['a:db']
    container_name: ${LOG_LEVEL}
  c: {extends: a, container_name: "${LOG_LEVEL}", network_mode: 'container:x'}
"""
    )
    (folder / "docker-compose.yml").write_text(text)
    assert not told(judged(folder, tmp_path / "s"), "files.compose")


def test_a_compose_file_that_is_no_unicode(folder: Path, tmp_path: Path) -> None:
    (folder / "docker-compose.yml").write_bytes("# configuração\n".encode("latin-1") + COMPOSE.encode())
    assert told(judged(folder, tmp_path / "s"), "files.compose") == [("critical", "docker-compose.yml")]


@pytest.mark.parametrize("sign", ["*", "!", "&", "@"])
def test_a_password_that_yaml_stumbles_over_is_not_told(sign: str, folder: Path, tmp_path: Path) -> None:
    text = COMPOSE.replace("LEVEL: ${LOG_LEVEL:-info}", f"PASSWORD: {sign}CanaryOfPassword x")
    (folder / "docker-compose.yml").write_text(text)
    assert "CanaryOfPassword" not in everything(judged(folder, tmp_path / "s"))


@pytest.mark.parametrize(
    ("script", "severity"),
    [
        (b"#!/bin/sh\ncat <<EOF\nabc\n", "critical"),
        (b"#!/bin/sh\necho \0\0\0\n", "critical"),
        (b"#!/bin/bahs\necho\n", "high"),
        (b"#!/opt/none/myinterp\necho\n", "medium"),
        (b"", "critical"),
    ],
)
def test_scripts(script: bytes, severity: str, folder: Path, tmp_path: Path) -> None:
    (folder / "scripts/backup.sh").write_bytes(script)
    results = judged(folder, tmp_path / "s")
    found = told(results, "files.script-syntax") + told(results, "files.script-modes")
    assert [level for level, _ in found] == [severity]


@pytest.mark.parametrize(
    "first", [b"#!/usr/bin/env bash", b"#!/usr/bin/env -S bash -eu", b"#!/bin/busybox sh"]
)
def test_scripts_that_are_fine(first: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "scripts/backup.sh").write_bytes(first + b"\ncat <<EOF\nabc\nEOF\n")
    results = judged(folder, tmp_path / "s")
    assert not told(results, "files.script-syntax") + told(results, "files.script-modes")


@pytest.mark.parametrize("first", [b"#!/usr/bin/env python3", b"#!/usr/bin/node", b"#!/bin/zsh"])
def test_scripts_of_another_language(first: bytes, folder: Path, tmp_path: Path) -> None:
    (folder / "scripts/other.sh").write_bytes(first + b"\nif (a) { print('x') }\n")
    (folder / "scripts/other.sh").chmod(0o755)
    results = judged(folder, tmp_path / "s")
    assert not told(results, "files.script-syntax") + told(results, "files.script-modes")
    (folder / "scripts/backup.sh").unlink()
    assert judged(folder, tmp_path / "t")["files.script-syntax"].status == "not_run"


def test_a_key_where_nginx_looks_for_a_certificate(folder: Path, tmp_path: Path) -> None:
    (folder / "ssl/site.crt").write_bytes((folder / "ssl/site.key").read_bytes())
    results = judged(folder, tmp_path / "s")
    assert ("critical", "ssl/site.crt") in told(results, "files.certificate-dates")


def test_a_request_for_a_certificate_is_none(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "ssl/site.crt").read_text().split("-----END CERTIFICATE-----")[0]
    request = lines.replace("CERTIFICATE", "CERTIFICATE REQUEST") + "-----END CERTIFICATE REQUEST-----\n"
    (folder / "ssl/site.csr").write_text(request)
    assert not told(judged(folder, tmp_path / "s"), "files.certificate-dates")
    (folder / "ssl/site.crt").write_text(request)
    assert told(judged(folder, tmp_path / "t"), "files.certificate-dates")[0][0] == "critical"


def test_certificates_joined_without_a_line_end(folder: Path, tmp_path: Path) -> None:
    path = folder / "ssl/site.crt"
    whole = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + whole)  # OpenSSL 3 reads it
    assert not told(judged(folder, tmp_path / "s"), "files.certificate-dates")
    path.write_bytes(whole.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----"))
    assert told(judged(folder, tmp_path / "t"), "files.certificate-dates") == [("critical", "ssl/site.crt")]


def test_a_key_that_asks_for_a_passphrase(folder: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (folder / "ssl/site.key").write_bytes(locked)
    assert told(judged(folder, tmp_path / "s"), "files.certificate-key") == [("high", "ssl/site.key")]
    helped = NGINX.replace("listen 443", "ssl_password_file /etc/nginx/ssl/pass; listen 443")
    (folder / "nginx.conf").write_text(helped)
    (folder / "ssl/pass").write_text("x\n")
    assert told(judged(folder, tmp_path / "t"), "files.certificate-key") == [("medium", "ssl/site.key")]


@pytest.mark.parametrize(
    ("line", "severities"),
    [
        ("PGPASSWORD=Zq9XcanaryV4l psql", ["high"]),
        ('export API_TOKEN="Zq9XcanaryV4l"', ["high"]),
        ("redis-cli -h r -a Zq9XcanaryV4l ping", ["high"]),
        ("export REDIS_PASSWORD=correcthorse", ["medium"]),
        ('PGPASSWORD="$DB_PASSWORD" psql', []),
        ("PGPASSWORD=$(cat /run/secrets/db) psql", []),
        ("PASSWORD_FILE=/run/secrets/db01password", []),
        ('redis-cli -a "$REDIS_PASSWORD" ping', []),
        ("redis-cli --pass ${P} -a - ping", []),
        ("# PGPASSWORD=Zq9XcanaryV4l psql", []),
        ("DB_PASSWORD=changeme psql", []),
    ],
)
def test_passwords_in_scripts(line: str, severities: list[str], folder: Path, tmp_path: Path) -> None:
    (folder / "scripts/backup.sh").write_text(f"#!/bin/sh\n{line}\n")
    results = judged(folder, tmp_path / "s")
    assert [level for level, _ in told(results, "files.leaked-secrets")] == severities
    assert "Zq9XcanaryV4l" not in everything(results)


def test_the_password_in_redis_conf() -> None:
    text = "requirepass Zq9XcanaryV4l\n# masterauth Zq9XcanaryV4l\nmasterauth ${REDIS_PASSWORD}\n"
    assert [(leak.line, leak.sure) for leak in scan(text, template=False, redis=True)] == [(1, False)]


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("port 99999", True), ("port abc", True), ("port", True), ("dir", True), ("requirepass", True),
        ("masterauth a b", True), ("replicaof 10.0.0.1", True), ("port 0", False), ("port ${PORT}", False),
        ('logfile ""', False), ("requirepass ${REDIS_PASSWORD}", False), ("replicaof no one", False),
        ("bind 127.0.0.1 -::1", False), ("rename-command FLUSHALL \"\"", False),
    ],
)  # fmt: skip
def test_lines_of_redis_conf_that_the_trial_start_leaves_out(line: str, refused: bool) -> None:
    """Each was held against Redis 6.2, 7.0 and 8.2."""
    assert [bool(static_trouble(one)) for one in directives(line)] == [refused]
