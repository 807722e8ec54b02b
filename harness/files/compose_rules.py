"""What the Compose specification knows: keys by place, and the shape of their values."""

from __future__ import annotations

import re
from typing import Any, Final

TOP_KEYS: Final = frozenset(
    {"version", "name", "services", "networks", "volumes", "configs", "secrets", "include", "models"}
)
BLOCK_KEYS: Final = {
    "networks": frozenset(
        {"driver", "driver_opts", "attachable", "enable_ipv4", "enable_ipv6", "external", "internal", "ipam"}
        | {"labels", "name"}
    ),
    "volumes": frozenset({"driver", "driver_opts", "external", "labels", "name"}),
    "configs": frozenset({"file", "environment", "content", "external", "name", "labels", "template_driver"}),
    "secrets": frozenset(
        {"file", "environment", "external", "name", "labels", "driver", "driver_opts", "template_driver"}
    ),
}
_LISTS: Final = (  # a list, or a mapping of names
    "annotations blkio_config build cap_add cap_drop configs credential_spec depends_on deploy develop"
    " devices device_cgroup_rules dns_opt environment expose external_links extra_hosts gpus group_add"
    " healthcheck labels links logging models networks ports post_start pre_stop profiles provider secrets"
    " security_opt storage_opt sysctls ulimits volumes volumes_from"
)
_TEXTS: Final = (  # a single word or number
    "cgroup cgroup_parent container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period"
    " cpu_rt_runtime cpu_shares cpus cpuset domainname hostname image ipc isolation mac_address mem_limit"
    " mem_reservation mem_swappiness memswap_limit network_mode oom_score_adj pid pids_limit platform"
    " pull_policy restart runtime scale shm_size stop_grace_period stop_signal user userns_mode uts"
    " volume_driver working_dir pull_refresh_after"
)
_FLAGS: Final = "attach init oom_kill_disable privileged read_only stdin_open tty use_api_socket"
_EITHER: Final = "command entrypoint env_file extends dns dns_search label_file tmpfs"
SERVICE_KEYS: Final = frozenset(f"{_LISTS} {_TEXTS} {_FLAGS} {_EITHER}".split())
_KINDS: Final = {
    **dict.fromkeys(_LISTS.split(), "nested"),
    **dict.fromkeys(_TEXTS.split(), "text"),
    **dict.fromkeys(_FLAGS.split(), "flag"),
}
_RESTART: Final = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")
_IMAGE: Final = re.compile(
    r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[\w.-]+)?(@[\w:+.-]+)?"
)
_DURATION: Final = re.compile(r"0|(\d+(\.\d+)?(ns|us|µs|μs|ms|s|m|h|d|w))+")
_TIMES: Final = ("interval", "timeout", "start_period", "start_interval")
_HOST_PORTS: Final = re.compile(r"(\d{1,5})?(-(\d{1,5}))?")
_CONDITIONS: Final = ("service_started", "service_healthy", "service_completed_successfully")
_BUILD_AS_TEXT: Final = frozenset({"build", "gpus", "credential_spec"})
_MAPPINGS: Final = frozenset(
    {"blkio_config", "deploy", "develop", "healthcheck", "logging", "provider", "ulimits", "storage_opt"}
)
_SEQUENCES: Final = frozenset(
    {"cap_add", "cap_drop", "devices", "expose", "ports", "profiles", "security_opt", "volumes", "links"}
)


def shape_trouble(key: str, value: Any) -> str:
    """Why Compose refuses a service key's value; "" when it does not. No value is quoted."""
    if value is None or (isinstance(value, str) and "${" in value):
        return ""
    kind = _KINDS.get(key)
    if kind == "text" and isinstance(value, (dict, list)):
        return "must be a single value"
    if (
        kind == "flag"
        and not isinstance(value, bool)
        and str(value).lower() not in ("true", "false", "yes", "no")
    ):
        return "must be true or false"
    if kind == "nested" and not isinstance(value, (dict, list)) and key not in _BUILD_AS_TEXT:
        return "must be a list or hold keys"
    if key in _MAPPINGS and not isinstance(value, dict):
        return "must hold keys"
    if key in _SEQUENCES and not isinstance(value, list):
        return "must be a list"
    if key == "ports":
        return _ports(value)
    if key == "restart" and value is not False and not _RESTART.fullmatch(str(value)):  # YAML reads `no` so
        return "must be no, always, on-failure or unless-stopped"
    if key == "image" and not _IMAGE.fullmatch(str(value)) and "$" not in str(value):
        return "names no image: names are lower-case words and digits"
    if key == "depends_on" and isinstance(value, dict):
        return _conditions(value)
    if (
        key == "environment"
        and isinstance(value, list)
        and any(isinstance(one, (dict, list)) for one in value)
    ):
        return "must be a list of NAME=value, or hold keys"
    if key == "stop_grace_period" and not _lasts(value):
        return "is no time such as 10s"
    if key == "healthcheck" and not all(_lasts(value[name]) for name in _TIMES if name in value):
        return "holds a time that is none, such as 10s"
    limits = [one for one in value.values() if isinstance(one, dict)] if key == "ulimits" else []
    return "" if all({"soft", "hard"} <= one.keys() for one in limits) else "needs `soft` and `hard`"


def _lasts(value: Any) -> bool:
    text = isinstance(value, str)
    return value is None or (text and ("$" in value or bool(_DURATION.fullmatch(value))))


def _conditions(wanted: dict[Any, Any]) -> str:
    for how in wanted.values():
        condition = str(how.get("condition", "service_started")) if isinstance(how, dict) else ""
        if condition not in _CONDITIONS and "$" not in condition:
            return "has a condition that does not exist"
    return ""


def _ports(ports: list[Any]) -> str:
    for port in ports:
        if isinstance(port, dict):
            if "target" not in port:
                return "has an entry without `target`"
            continue
        if "$" in str(port):
            continue
        inside = str(port).rsplit(":", 1)[-1].split("/")[0]
        numbers = inside.split("-")
        outside = re.sub(r"^\[[^]]*\]:", ":", str(port)).split(":")[:-1]
        host = _HOST_PORTS.fullmatch(outside[-1]) if outside else None
        if (
            len(numbers) > 2
            or not all(n.isdecimal() and 0 < int(n) < 65536 for n in numbers)
            or (len(outside) > 2 and "::" not in str(port))
            or (outside and (host is None or any(int(n or 0) > 65535 for n in host.group(1, 3))))
        ):
            return "has an entry that is no port"
    return ""
