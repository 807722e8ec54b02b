"""Readers of configuration files never break on what stands in them: they are given hostile text."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import certificates, compose, env, nginx, redis_conf, secret_scan

PIECES = (
    "http|server|{|}|;|if|(|)|$x|'|\"|#|\n| |location|services:|- |  |&a|*a|<<: *a|image: x|${A:-b}|${|$$"
    "|!reset|[|]|: |save 900 1|A=|\\|-----BEGIN CERTIFICATE-----|-----END CERTIFICATE-----"
    "|-----BEGIN EC PRIVATE KEY-----|AAAA|\0|é"
)
WORDS = st.sampled_from(PIECES.split("|"))
TEXTS = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=60).map("".join))


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_reader(text: str) -> None:
    nginx.parse.__wrapped__(text)
    list(nginx.sites(nginx.parse.__wrapped__(text)))
    file = compose.read.__wrapped__("docker-compose.yml", text)
    list(compose.together([file]))
    env.troubles(text)
    for directive in redis_conf.directives(text):
        redis_conf.static_trouble(directive)
    list(secret_scan.scan(text, template=True))
    certificates.read_certificates("ssl/a.crt", text.encode())
    certificates.read_key("ssl/a.key", text.encode())


NAMES = "api db image build ports volumes environment depends_on networks secrets source target type configs"
KEYS = st.sampled_from([*NAMES.split(), "services", "deploy", "x-a", "command", "external"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "a:b", "80:x", "${B?}", "./a:/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=4), VALUES)
@settings(max_examples=150, deadline=None)
def test_no_shape_breaks_the_reader_of_compose_files(blocks: dict[str, object], services: object) -> None:
    text = yaml.safe_dump({**blocks, "services": services})
    list(compose.together([compose.read.__wrapped__("compose.yml", text)]))


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\n" * 9000,
        "-----BEGIN RSA PRIVATE KEY-----" * 8000,
        "PASSWORD" + " " * 250_000,
        "eyJ" * 80_000,
        "a://" * 60_000,
        "x" * 250_000,
    ],
    ids=["certificates", "keys", "blanks", "tokens", "addresses", "one word"],
)
def test_no_text_makes_the_scan_for_secrets_slow(text: str) -> None:
    began = time.process_time()
    list(secret_scan.scan(text, template=True))
    certificates.read_certificates("ssl/a.crt", text.encode())
    certificates.read_key("ssl/a.key", text.encode())
    assert time.process_time() - began < 2
