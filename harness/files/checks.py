"""Every check of configuration backups, in the order in which reports show them."""

from __future__ import annotations

from typing import Final

from ..check import Check
from .checks_compose import compose_files, env_complete
from .checks_folder import manifest, present, readable, restored
from .checks_nginx import nginx_references, nginx_syntax
from .checks_redis import redis_conf
from .checks_scripts import script_modes, script_syntax
from .checks_secrets import leaked_secrets, secrets_accounted, secrets_escrow
from .checks_tls import (
    certificate_chain,
    certificate_dates,
    certificate_key,
    certificate_names,
    key_permissions,
)

CHECKS: Final[tuple[Check, ...]] = (
    readable,
    present,
    restored,
    manifest,
    nginx_syntax,
    nginx_references,
    redis_conf,
    compose_files,
    env_complete,
    certificate_dates,
    certificate_chain,
    certificate_key,
    certificate_names,
    key_permissions,
    script_syntax,
    script_modes,
    leaked_secrets,
    secrets_escrow,
    secrets_accounted,
)
