"""provado.yaml and the environment -> `Settings`. The only reader of configuration.

Unknown keys are errors with the place named, so that a mistyped expectation cannot silently expect nothing.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from ..errors import ConfigError
from ..model import Severity
from .files import FilesSettings, SecretsSettings
from .policy import ConsistencySettings, PolicySettings, Runbook, Step
from .postgres import PostgresSettings
from .redis import RedisSettings
from .types import Duration, Section, Size


class Source(Section):
    """A place where backups lie, as `backups:` lists them."""

    path: Path
    component: Literal["postgres", "redis", "files"] | None = None
    select: str = "newest"
    manifest: Path | None = None
    globals: Path | None = None


class Objectives(Section):
    """RPO and RTO, in seconds."""

    rpo: Duration | None = None
    rto: Duration | None = None


class SandboxSettings(Section):
    """Which throwaway servers to use, and what they may take."""

    kind: Literal["auto", "local", "container"] = "auto"
    postgres_bin: Path | None = None
    redis_bin: Path | None = None
    images: dict[Literal["postgres", "redis", "valkey"], str] = Field(default_factory=dict)
    memory: Size = 4 << 30
    disk: Size = 200 << 30
    timeout: Duration = 4 * 3600.0


class EvidenceSettings(Section):
    """How evidence is kept: the key that signs it (`env:NAME` or `file:PATH`)."""

    signing_key: str | None = None


class Waiver(Section):
    """A finding accepted for a while: check id, object pattern (`*` as in file names), by whom, until."""

    check: str
    object: str = "*"
    reason: Annotated[str, Field(min_length=8)]
    owner: Annotated[str, Field(min_length=1)]
    expires: date


class Settings(Section):
    """All of provado.yaml, with the defaults filled in."""

    backups: tuple[Source, ...] = ()
    output: Path = Path("reports")
    lang: Literal["en", "pt-BR"] = "en"
    fail_on: Severity = Severity.HIGH
    jobs: Annotated[int, Field(ge=1, le=64)] = 1
    objectives: Objectives = Objectives()
    sandbox: SandboxSettings = SandboxSettings()
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    files: FilesSettings = FilesSettings()
    secrets: SecretsSettings = SecretsSettings()
    policy: PolicySettings = PolicySettings()
    runbook: Runbook | None = None
    consistency: ConsistencySettings = ConsistencySettings()
    after_restore: tuple[Step, ...] = ()
    evidence: EvidenceSettings = EvidenceSettings()
    waivers: tuple[Waiver, ...] = ()


_MERGE = "tag:yaml.org,2002:merge"


class _UniqueLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice: the second would silently win."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:  # `<<: *other` brings other's keys, which our own ones override
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable):
            if key in seen:
                where = key_node.start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", where)
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)

_ENVIRONMENT = {  # PROVADO_* variable -> place in the configuration
    "PROVADO_OUTPUT": ("output",),
    "PROVADO_LANG": ("lang",),
    "PROVADO_JOBS": ("jobs",),
    "PROVADO_FAIL_ON": ("fail_on",),
    "PROVADO_RPO": ("objectives", "rpo"),
    "PROVADO_RTO": ("objectives", "rto"),
    "PROVADO_SANDBOX": ("sandbox", "kind"),
    "PROVADO_POSTGRES_BIN": ("sandbox", "postgres_bin"),
    "PROVADO_REDIS_BIN": ("sandbox", "redis_bin"),
}


def load_settings(
    file: Path | None,
    overrides: Mapping[tuple[str, ...], Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the configuration: flag (`overrides`), then PROVADO_* variable, then file, then default.

    `file=None` takes ./provado.yaml when it exists. Relative paths in the file count from its folder.
    Raises ConfigError naming the file, the key and the remedy.
    """
    if file is None and environ.get("PROVADO_CONFIG"):
        file = Path(environ["PROVADO_CONFIG"])
    if file is None and Path("provado.yaml").is_file():
        file = Path("provado.yaml")
    data: dict[str, Any] = _read(file) if file else {}
    for name, place in _ENVIRONMENT.items():
        if environ.get(name):
            _put(data, place, environ[name])
    for place, value in (overrides or {}).items():
        if value is not None:
            _put(data, place, value)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"]) or "(top level)"
        hint = (
            "unknown key; see `provado schema` for the known ones"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        raise ConfigError(f"{key}: {hint}", where=str(file or "options")) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _UniqueLoader)  # noqa: S506 - derives from SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not valid YAML: {error}", where=str(file)) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", where=str(file)) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError("must hold keys at its top level", where=str(file))
    base = file.resolve().parent
    for source in data.get("backups") or ():
        if isinstance(source, dict):
            for key in ("path", "manifest", "globals"):
                if isinstance(source.get(key), str):
                    source[key] = str(base / source[key])
    for section, key in (("runbook", "path"), ("redis", "redis_conf")):
        if isinstance(data.get(section), dict) and isinstance(data[section].get(key), str):
            data[section][key] = str(base / data[section][key])
    for step in data.get("after_restore") or ():
        if isinstance(step, dict):
            for key in ("sql", "cwd"):
                if isinstance(step.get(key), str):
                    step[key] = str(base / step[key])
    if isinstance(data.get("output"), str):
        data["output"] = str(base / data["output"])
    _secrets_from(base, data.get("secrets"))
    return data


def _secrets_from(base: Path, secrets: Any) -> None:
    """`file:PATH` references of the section `secrets` count from the configuration's folder, as paths do."""
    if not isinstance(secrets, dict):
        return
    for probe in secrets.get("probes") or ():
        if isinstance(probe, dict):
            probe["folder"] = str(base / str(probe.get("folder") or "."))
    places = [(secrets, "fingerprint_key")]
    places += [(one, "escrow") for one in secrets.get("required") or () if isinstance(one, dict)]
    for holder, key in places:
        if isinstance(holder.get(key), str) and holder[key].startswith("file:"):
            holder[key] = f"file:{base / holder[key][5:]}"


def _put(data: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key} must hold keys", where="provado.yaml")
        data = inner
    data[place[-1]] = value
