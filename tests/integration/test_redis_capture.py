"""Manifests of live servers: without CONFIG, with ACL users, over TLS; and what they keep secret."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis_servers import SERVERS, Running, fill, read_file, running

from harness import process
from harness.errors import ConfigError
from harness.manifest import read_manifest, write_manifest
from harness.redact import Secret
from harness.redis.capture import capture, capture_saved, expected_keys, facts_of_rdb
from harness.redis.wire import Address, Wire


def as_user(one: Running, *rules: str) -> Wire:
    one.wire.call("ACL", "SETUSER", "backup", "on", ">a long secret", *rules)
    return Wire(Address(one.server.unix_socket, user="backup", password=Secret("a long secret")))


def test_a_manifest_survives_its_file_and_keeps_no_names(tmp_path: Path) -> None:
    with running(None) as one:
        fill(one.wire, one.vendor, one.version)
        made = capture(one.wire)
        write_manifest(tmp_path / "m.json", made)
        text = (tmp_path / "m.json").read_text()
        assert "hash:3" not in text and "word-1" not in text and "a[1]" not in text
        assert one.server.password.reveal() not in text
        again = read_manifest(tmp_path / "m.json", "redis")
        assert again.source["version"] == ".".join(map(str, one.version))
        assert again.facts["total_keys"] == sum(1 for _ in _keys(one.wire))
        one.wire.call("SAVE")
        facts, _ = facts_of_rdb(one.dump, one.wire)
        assert facts["total_keys"] == again.facts["total_keys"]
        assert facts["libraries"].keys() == again.facts["libraries"].keys()
        assert facts["config"]["databases"] == again.facts["config"]["databases"]
        assert expected_keys(facts, tmp_path).count == expected_keys(again.facts, tmp_path).count


def _keys(wire: Wire) -> list[bytes]:
    found: list[bytes] = []
    for db in (0, 3, 15):
        wire.call("SELECT", db)
        found += wire.call("KEYS", "*")
    wire.call("SELECT", 0)
    return found


def test_a_user_without_config_is_enough(tmp_path: Path) -> None:
    with running(None) as one:
        one.wire.call("SET", "a", "1")
        rules = ("~*", "+@read", "+info", "+scan", "+time", "+select", "+function|list", "+acl|users")
        with as_user(one, *rules) as wire:
            made = capture(wire)
        assert made.facts["config"] is None and made.facts["total_keys"] == 1
        assert made.facts["acl_users"] == ["backup", "default"]


@pytest.mark.parametrize(
    "rules",
    [("~app:*", "+@all"), ("~*", "+@all", "-info"), ("~*", "+@all", "-get"), ("~*", "+@all", "-scan")],
    ids=["keys", "info", "get", "scan"],
)
def test_a_user_who_sees_only_part_is_refused(rules: tuple[str, ...]) -> None:
    """A manifest of a part would accuse, or acquit, the wrong backups."""
    with running(None) as one:
        one.wire.call("SET", "other", "1")
        with as_user(one, *rules) as wire, pytest.raises(ConfigError):
            capture(wire)


def test_a_wrong_password_is_told_without_it() -> None:
    with running(None) as one:
        wrong = Address(one.server.unix_socket, password=Secret("never this one"))
        with pytest.raises(ConfigError) as told:
            Wire(wrong)
        assert "never this one" not in str(told.value)


def test_over_tls(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    port = _free_port()
    name = next((name for name in sorted(SERVERS) if name.startswith("redis-7")), None)
    if name is None:
        pytest.skip("no Redis 7 here: those of the wheels know no TLS")
    server = SERVERS[name] / "redis-server"
    argv = [server, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", ""]
    argv += ["--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem"]
    argv += ["--tls-auth-clients", "no", "--dir", tmp_path]
    started = process.start(argv)
    try:
        with _connected(
            Address(None, "localhost", port, tls=True, ca_file=str(tmp_path / "cert.pem"))
        ) as wire:
            wire.call("SET", "a", "1")
            assert capture(wire).facts["total_keys"] == 1
        with pytest.raises(ConfigError):
            Wire(Address(None, "localhost", port, tls=True))
    finally:
        process.end(started)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connected(address: Address) -> Wire:
    until = time.monotonic() + 10
    while True:
        try:
            return Wire(address)
        except ConfigError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_an_append_only_file_of_one_piece(name: str, tmp_path: Path) -> None:
    """Before 7.0 the AOF is one file that may begin with an RDB: the server holds all that is in it."""
    with running(SERVERS[name]) as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SAVE")
        _, first = read_file(one.dump, tmp_path)
        whole = one.dump.read_bytes() + b"*3\r\n$3\r\nSET\r\n$5\r\nafter\r\n$1\r\n1\r\n"
        (tmp_path / "appendonly.aof").write_bytes(whole)
    from test_redis_drill import bad, verify

    evidence = verify(tmp_path / "appendonly.aof")
    assert bad(evidence) == {}
    assert evidence.measured.keys == first.count + 1
    (tmp_path / "appendonly.aof").write_bytes(whole[:-4])
    assert "redis.aof-whole" in bad(verify(tmp_path / "appendonly.aof"))


def test_keys_that_expire_between_capture_and_save_are_no_loss(tmp_path: Path) -> None:
    """The clock inside an RDB is rounded down to the second: what expired within it was gone rightly."""
    from test_redis_drill import bad, verify

    with running(None) as one:
        one.wire.call("SET", "stays", "1")
        while time.time() % 1 > 0.2:
            time.sleep(0.02)
        one.wire.call("SET", "goes", "1", "PX", 250)
        write_manifest(tmp_path / "m.json", capture(one.wire))
        time.sleep(0.35)
        assert one.wire.call("GET", "goes") is None
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
    assert bad(verify(tmp_path / "dump.rdb", tmp_path / "m.json")) == {}


@pytest.mark.parametrize("saved", [False, True], ids=["live", "saved"])
def test_without_digests_keys_types_and_expiry_are_compared(saved: bool, tmp_path: Path) -> None:
    from test_redis_drill import bad, verify

    with running(None) as one:
        fill(one.wire, one.vendor, one.version)
        if saved:
            url = f"unix://default:{one.server.password.reveal()}@{one.server.unix_socket}"
            made, notes = capture_saved(Secret(url), one.dump, digests=False)
            assert notes == [] and made.facts["canary"]
        else:
            one.wire.call("SAVE")
            made = capture(one.wire, digests=False)
        write_manifest(tmp_path / "m.json", made)
        assert made.facts["digests"] is False
        good = one.dump.read_bytes()
        (tmp_path / "dump.rdb").write_bytes(good)
        evidence = verify(tmp_path / "dump.rdb", tmp_path / "m.json")
        assert bad(evidence) == {}
        assert any("without digests" in text for text in evidence.unproven)
        if saved:
            return
        one.wire.call("SET", "text", "another value")
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
        assert bad(verify(tmp_path / "dump.rdb", tmp_path / "m.json")) == {}  # said to be unproven
        for change, check in (
            (("DEL", "hash:3"), "redis.source-keys"),
            (("PERSIST", "later"), "redis.source-expiry"),
            (("SET", "list:3", "no list"), "redis.source-values"),
        ):
            one.wire.call(*change)
            one.wire.call("SAVE")
            (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
            assert check in bad(verify(tmp_path / "dump.rdb", tmp_path / "m.json"))
