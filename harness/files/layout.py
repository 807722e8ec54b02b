"""What a configuration backup looks like: the runbook's list, and how one is recognised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..archive import is_tar

RUNBOOK: Final = (  # runbook, "Backup de Configurações"
    "nginx.conf",
    "redis.conf",
    "docker-compose.yml",
    "docker-compose.prod.yml",
    ".env.example",
    "env-template.txt",
    "ssl/",
    "scripts/",
)
_KNOWN: Final = frozenset(
    name.rstrip("/") for name in (*RUNBOOK, "compose.yml", "compose.yaml", "docker-compose.yaml")
)
_NAMES: Final = tuple(
    n.encode() for n in ("nginx.conf", "redis.conf", "compose.y", "docker-compose", "env-template")
)
_DATED: Final = re.compile(r"(?:^|[-_])\d{4}-?\d{2}-?\d{2}([-_T]?\d{4,6})?$")


def recognise(path: Path, head: bytes) -> str | None:
    """What a path is: `folder` when its name ends in a date (or is `config` in a folder of backups, as the
    runbook's emergency backup makes it) and it holds known files, `tar` for an archive of such, else None."""
    if path.is_dir():
        dated = bool(_DATED.search(path.name))
        emergency = path.name in ("config", "conf") and "backup" in path.parent.name
        if not (dated or emergency):
            return None
        try:
            known = any(child.name in _KNOWN for child in path.iterdir())
        except OSError:
            return None
        return "folder" if known else None
    if is_tar(head) and (
        re.search(r"(config|conf)[-_]?backup", path.name) or any(name in head for name in _NAMES)
    ):
        return "tar"
    return None


def is_compose(name: str) -> bool:
    """Whether a file's name says that it is a compose file."""
    return bool(re.search(r"(^|/)(docker-)?compose[\w.-]*\.ya?ml$", name))


def is_nginx(name: str) -> bool:
    """Whether a file's name says that it is a configuration of nginx."""
    return bool(re.search(r"(^|/)nginx[\w.-]*\.conf$", name))


def is_redis(name: str) -> bool:
    """Whether a file's name says that it is a Redis or Valkey configuration."""
    return bool(re.search(r"(^|/)(redis|valkey)[\w.-]*\.conf$", name))


def is_env(name: str) -> bool:
    """Whether a file's name says that it lists environment variables (a template or the real one)."""
    return bool(re.search(r"(^|/)(\.env[\w.-]*|[\w.-]*\.env|env-template\.txt)$", name))


def is_script(name: str, head: bytes) -> bool:
    """Shell scripts: by their ending, or by their first line."""
    if re.search(r"\.(sh|bash)$", name):
        return True
    return bool(re.match(rb"#!\s*\S*(/env\s+)?\S*\b(ba|da|k|a)?sh\b", head))


def in_ssl(name: str) -> bool:
    """Whether a file lies where certificates and their keys belong."""
    return bool(re.search(r"(^|/)(ssl|tls|certs?|certificates?|letsencrypt|pki)/", name))
