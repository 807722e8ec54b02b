"""Take a backup of a configuration: one folder per day, whole or not at all, no secrets in the open.

The runbook drops every line with KEY in it from the env template, and with it the knowledge that the system
needs an ENCRYPTION_KEY. Here every name stays; only secret values go.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ..backups import Order, Taken, discarded_on_error, finish, need_room, partial, taking
from ..errors import ConfigError, ToolError
from ..manifest import Manifest, write_manifest
from ..settings import Settings
from .env import is_secret
from .facts import capture_facts, digest
from .layout import RUNBOOK

_TEMPLATE: Final = "env-template.txt"
_COMPOSE: Final = ("compose*.y*ml", "docker-compose*.y*ml")
_LINE: Final = re.compile(r"^(\s*(?:export\s+)?)([A-Za-z_][A-Za-z0-9_.]*)=(.*)$")
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_=.-]{24,}")


def backup(source: Path, order: Order, settings: Settings, include: tuple[str, ...] = ()) -> Taken:
    """Copy the configuration found in `source` (the runbook's list, `files.required` and `include`).

    Raises ConfigError when something asked for is not there or nothing is found, ToolError when a file
    cannot be read or there is no room; then no folder of the final name exists.
    """
    with taking(order.folder, settings.policy.zone, f"{order.kind} de configurações") as log:
        began, captured = time.monotonic(), datetime.now(UTC)
        wanted = list(_wanted(source, settings, include))
        if not wanted:
            raise ConfigError(
                "holds none of the files that a configuration backup is about", where=str(source)
            )
        need_room(order.folder, sum(_bytes(p) for p in wanted))
        final = _free(order)
        with discarded_on_error(partial(order.folder, final.name)) as path:
            path.mkdir(mode=0o750)
            notes = [note for item in wanted for note in _copy(item, path / item.relative_to(source), source)]
            if (source / ".env").is_file():
                text = (source / ".env").read_text(encoding="utf-8", errors="replace")
                (path / _TEMPLATE).write_text(template(text), encoding="utf-8")
            facts, sha256 = capture_facts(path), digest(path)
            size = _bytes(path)
            manifest = final.with_name(final.name + ".manifest.json")
            made = Manifest(
                "files",
                {"folder": source.resolve().name},
                captured,
                facts,
                artifact={"sha256": sha256, "bytes": size},
            )
            write_manifest(manifest, made)
            finish(path, final)
        seconds = round(time.monotonic() - began, 3)
        log.write(f"Backup concluído: {final.name} ({size} bytes em {seconds:.1f} s)")
        return Taken(final, manifest, None, size, sha256, seconds, tuple(notes))


def template(text: str) -> str:
    """An env file without its secrets: every name stays, secret values are left empty.

    A value is secret by its variable's name, as a password in a URL, or when it looks like a key.
    """
    lines = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            lines.append(line if line.lstrip().startswith("#") or not line.strip() else "# (a line left out)")
            continue
        head, name, value = found[1], found[2], found[3].strip().strip("'\"")
        lines.append(f"{head}{name}={_harmless(name, value)}")
    return "\n".join(lines) + "\n"


def _harmless(name: str, value: str) -> str:
    if is_secret(name):
        return ""
    if "://" in value:
        try:
            parts = urlsplit(value)
            if parts.password:
                host = parts.netloc.rpartition("@")[2]
                return parts._replace(netloc=f"{parts.username or ''}:@{host}").geturl()
        except ValueError:
            return ""
        return value
    mixed = re.search(r"\d", value) and re.search(r"[A-Z]", value) and re.search(r"[a-z]", value)
    return "" if _RANDOM.fullmatch(value) and mixed else value


def _wanted(source: Path, settings: Settings, include: tuple[str, ...]) -> Iterator[Path]:
    """Files and folders to copy: those asked for must be there, those of the runbook may be."""
    asked = [*include, *(settings.files.required or ())]
    found: dict[Path, None] = {}
    for name in asked:
        path = (source / name).resolve()
        if not path.is_relative_to(source.resolve()):
            raise ConfigError(f"{name} lies outside the folder", where=str(source))
        if not path.exists() and name.rstrip("/") != _TEMPLATE:
            raise ConfigError(f"{name} is not there", where=str(source), remedy="nothing was written")
        if path.exists():
            found[source / name.rstrip("/")] = None
    for name in RUNBOOK:
        if (source / name.rstrip("/")).exists():
            found[source / name.rstrip("/")] = None
    for pattern in _COMPOSE:
        found.update(dict.fromkeys(sorted(source.glob(pattern))))
    yield from found


def _copy(item: Path, target: Path, root: Path) -> Iterator[str]:
    """Copy a file or a tree; links are followed where they stay inside the source."""
    real = item.resolve()
    if item.is_symlink() and not real.is_relative_to(root.resolve()):
        yield f"{item.relative_to(root)} is a link out of the folder and was left out"
        return
    try:
        if item.is_dir():
            target.mkdir(mode=0o750, parents=True, exist_ok=True)
            for child in sorted(item.iterdir()):
                yield from _copy(child, target / child.name, root)
        elif item.is_file():
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            shutil.copyfile(item, target)
            target.chmod(real.stat().st_mode & 0o777)
        else:
            yield f"{item.relative_to(root)} is no regular file and was left out"
    except OSError as error:
        raise ToolError(f"cannot be copied: {error.strerror}", where=str(item)) from None


def _free(order: Order) -> Path:
    """`YYYYMMDD`, the runbook's name for the day; a second one on a day has its time, too."""
    day = order.folder / f"{order.at:%Y%m%d}"
    if order.kind != "daily" or order.prefix:
        kind = "" if order.kind == "daily" else f"{order.kind}-"
        return order.path(f"{kind}config-backup", "", with_kind=False)
    return day if not day.exists() else order.folder / f"{order.at:%Y%m%d-%H%M%S}"


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
