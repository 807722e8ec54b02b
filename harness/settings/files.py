"""provado.yaml, section `files`."""

from __future__ import annotations

from .types import Section


class FilesSettings(Section):
    """What people expect of configuration backups."""
