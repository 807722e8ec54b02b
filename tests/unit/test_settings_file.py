"""provado.yaml as text: anchors and merge keys work, a key written twice does not."""

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.manifest import read_manifest
from harness.settings import Settings, load_settings

WINDOWS = """
waivers:
  - &usual
    check: pg.matviews-filled
    object: view a
    reason: filled by the nightly job
    owner: ana
    expires: 2027-01-01
  - <<: *usual
    object: view b
"""


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "provado.yaml"
    path.write_text(text)
    return load_settings(path, environ={})


def test_merge_keys_bring_what_they_name_and_own_keys_win(tmp_path: Path) -> None:
    first, second = load(tmp_path, WINDOWS).waivers
    assert (first.object, second.object) == ("view a", "view b")
    assert (second.owner, second.reason) == (first.owner, first.reason)


@pytest.mark.parametrize(
    "text",
    [
        "lang: en\nlang: pt-BR\n",
        "policy: {timezone: UTC, timezone: UTC}\n",
        WINDOWS + "    object: view c\n",
    ],
)
def test_a_key_written_twice_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="stands twice"):
        load(tmp_path, text)


def test_an_unknown_key_is_an_error_also_when_merged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no_such_key"):
        load(tmp_path, WINDOWS.replace("owner: ana", "owner: ana\n    no_such_key: 1"))


def test_what_is_nested_too_deeply_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too deeply"):
        load(tmp_path, "a: " + "[" * 3000)
    manifest = tmp_path / "m.json"
    manifest.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="no Provado manifest"):
        read_manifest(manifest, "postgres")
