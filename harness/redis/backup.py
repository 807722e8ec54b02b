"""Take a backup of a Redis or Valkey server: its RDB over the replication protocol, checked key by key."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from ..backups import Order, Taken, discarded_on_error, finish, need_room, partial, taking
from ..errors import ToolError
from ..manifest import Manifest, write_manifest
from ..redact import MASK, read_secret
from ..settings import Settings
from ..stream import Stream, open_file
from . import saving
from .canary import planted
from .capture import facts_of_rdb, source_facts
from .sync import Sync
from .wire import Address, Refused, ServerGone, Wire, parse_url

_SECRETS: Final = ("requirepass", "masterauth", "pass", "key-file-pass", "masteruser")


def address(url: str, password: str | None = None) -> Address:
    """A server's address: a URL itself or as `env:NAME` / `file:PATH`, the password likewise apart.

    Raises ConfigError for anything else.
    """
    if url.startswith(("env:", "file:")):
        url = read_secret(url).reveal()
    made = parse_url(url)
    return replace(made, password=read_secret(password)) if password else made


def backup(source: Address, order: Order, settings: Settings, data_dir: Path | None = None) -> Taken:
    """Take the backup and return it under its final name; on any error no file of that name exists.

    `data_dir` is the server's own folder, where it is reachable: its AOF goes into the archive, too. Raises
    ToolError when the server refuses or stops, ArtifactError when what it sent is not what it holds.
    """
    try:
        return _backup(source, order, settings, data_dir)
    except ServerGone as gone:
        raise ToolError(f"the backup stopped: {gone}") from None


def _backup(source: Address, order: Order, settings: Settings, data_dir: Path | None) -> Taken:
    deadline = time.monotonic() + order.timeout_s
    with (
        taking(order.folder, settings.policy.zone, f"{order.kind} do Redis") as log,
        Wire(replace(source, database=0)) as wire,
    ):
        began, info = time.monotonic(), wire.info()
        final = order.path("redis-backup", ".tar.gz", with_kind=order.kind != "daily")
        need_room(order.folder, 2 * int(info.get("used_memory", "0")))
        notes: list[str] = []
        with contextlib.ExitStack() as stack:
            rdb = stack.enter_context(_scratch(partial(order.folder, final.name + ".rdb")))
            archive = stack.enter_context(discarded_on_error(partial(order.folder, final.name)))
            captured = datetime.now(UTC)
            with planted(replace(source, database=0), wire, wanted=settings.redis.canary) as bird:
                counts, parts = _fetch(source, wire, rdb, data_dir, notes, stack, deadline)
            facts, read = facts_of_rdb(rdb, wire, canary=bird, timeout_s=order.timeout_s)
            notes += bird.notes()
            saving.same_counts(read, counts)
            _pack(archive, final.name.removesuffix(".tar.gz"), rdb, parts, wire, info, order)
            sha256 = _read_back(archive)
            size = archive.stat().st_size
            manifest = final.with_name(final.name + ".manifest.json")
            made = Manifest(
                "redis", source_facts(wire), captured, facts, artifact={"sha256": sha256, "bytes": size}
            )
            write_manifest(manifest, made)
            finish(archive, final)
        seconds = round(time.monotonic() - began, 3)
        log.write(f"Backup concluído: {final.name} ({size} bytes, {read.total} chaves em {seconds:.1f} s)")
        return Taken(final, manifest, None, size, sha256, seconds, tuple(notes))


def _fetch(
    source: Address,
    wire: Wire,
    rdb: Path,
    data_dir: Path | None,
    notes: list[str],
    stack: contextlib.ExitStack,
    deadline: float,
) -> tuple[dict[int, int] | None, list[tuple[str, IO[bytes], int]]]:
    """The RDB in `rdb`; keys per database at the moment of the fork (None: not known), and open AOF parts."""
    saving.wait_idle(wire, deadline)
    sync_wire = stack.enter_context(Wire(replace(source, database=0), timeout_s=120.0))
    counts: dict[int, int] | None = None
    parts: list[tuple[str, IO[bytes], int]] = []
    with saving.paused(wire) as paused:
        if paused:
            counts = saving.counts(wire)
        if data_dir is not None:
            parts = _aof_parts(data_dir, wire, stack)
        sync = Sync(sync_wire)
        if not (paused and saving.forked(wire, sync.refused)):
            counts = None
            notes.append("writes could not be paused around the fork: the counts were not compared")
    sync.save(rdb, deadline=deadline)
    sync_wire.close()  # else the server goes on feeding us as its replica
    return counts, parts


def _aof_parts(data_dir: Path, wire: Wire, stack: contextlib.ExitStack) -> list[tuple[str, IO[bytes], int]]:
    """The files of the AOF, opened while writes are paused: (name in the archive, file, bytes valid now).

    Open files outlive a rewrite that replaces them, and what is appended later is not copied.
    """
    if wire.info("persistence").get("aof_enabled") != "1":
        return []
    settings = {
        name: wire.call("CONFIG", "GET", name)[1].decode() for name in ("appenddirname", "appendfilename")
    }
    folder = data_dir / settings["appenddirname"]
    manifest = folder / f"{settings['appendfilename']}.manifest"
    if not manifest.is_file():
        raise ToolError(
            "there is no AOF manifest", where=str(manifest), remedy="name the server's own folder"
        )
    text = manifest.read_text(encoding="utf-8")
    names = [manifest.name, *(shlex.split(line)[1] for line in text.splitlines() if line.strip())]
    found = []
    for name in names:
        file = stack.enter_context(open_file(folder / Path(name).name))
        found.append((f"{folder.name}/{Path(name).name}", file, os.fstat(file.fileno()).st_size))
    return found


def _pack(
    archive: Path,
    folder: str,
    rdb: Path,
    parts: list[tuple[str, IO[bytes], int]],
    wire: Wire,
    info: dict[str, str],
    order: Order,
) -> None:
    """A tarball as the seed's script names its members, with the data that its script leaves out.

    Data has the names that the source's own settings give it: under others its server would start empty.
    """
    config = dict(_config(wire))
    dump = Path(config.get("dbfilename") or "dump.rdb").name
    lines = {
        "redis-info.txt": "\n".join(f"{k}:{v}" for k, v in info.items()),
        "redis-config.txt": "\n".join(f"{k} {v}" for k, v in config.items()),
        "backup-metadata.txt": f"kind: {order.kind}\ntaken: {order.at.isoformat(timespec='seconds')}\n"
        f"by: provado\nrdb: {dump}\naof: {parts[0][0].partition('/')[0] if parts else 'none'}",
    }
    archive.touch(mode=0o600)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:  # an RDB is compressed already
        with rdb.open("rb") as data_file:
            _add(tar, f"{folder}/{dump}", data_file, rdb.stat().st_size, order)
        for name, file, size in parts:
            _add(tar, f"{folder}/{name}", file, size, order)
        for name, text in lines.items():
            data = (text + "\n").encode()
            _add(tar, f"{folder}/{name}", io.BytesIO(data), len(data), order)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int, order: Order) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o640, int(order.at.timestamp())
    tar.addfile(member, file)


def _config(wire: Wire) -> Iterator[tuple[str, str]]:
    """CONFIG GET *, passwords masked; nothing where it is forbidden."""
    try:
        flat = wire.call("CONFIG", "GET", "*")
    except Refused:
        return
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        key = name.decode("utf-8", "replace")
        secret = value and (key in _SECRETS or key.endswith(("pass", "auth")))
        yield key, MASK if secret else value.decode("utf-8", "replace")


def _read_back(archive: Path) -> str:
    """Read the whole archive as it lies on the disk; returns its SHA-256."""
    with open_file(archive) as file:
        stream = Stream(file, archive, ("gzip",))
        for _ in stream:
            pass
    return stream.sha256


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
