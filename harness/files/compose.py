"""Compose files: read safely, held against the Compose specification, and asked for the variables they use.

The rules are those of https://github.com/compose-spec/compose-spec (05-services.md and its neighbours), as
far as `docker compose config` refuses a file for them. Files that go over one another (docker-compose.yml and
docker-compose.prod.yml) are also judged together.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import yaml

from .compose_rules import BLOCK_KEYS, SERVICE_KEYS, TOP_KEYS, shape_trouble

_NAME: Final = re.compile(r"^[a-zA-Z0-9._-]+$")
_VARIABLE: Final = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[_a-zA-Z]\w*)|\{(?P<name>[_a-zA-Z]\w*)(?:(?P<sign>:?[-?+])|\})|(?P<bad>\{))"
)


@dataclass(frozen=True)
class ComposeFile:
    """One file: its content, its troubles (place, message), and the variables it uses.

    `variables` maps a name to True when the file has no default for it.
    """

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    troubles: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, bool] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """SafeLoader with Compose's tags (!reset, !override); a key written twice is an error, as in Compose."""


def _tagged(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Hashable):
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", key_node.start_mark)
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("!reset", _tagged)
_Loader.add_constructor("!override", _tagged)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@lru_cache(maxsize=16)
def read(name: str, text: str) -> ComposeFile:
    """Read one compose file; what is wrong with it stands in `troubles`. Remembered."""
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        return ComposeFile(name, troubles=((f"{name}:{line}", f"is not valid YAML: {_plain(error)}"),))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return ComposeFile(name, troubles=((name, f"is not valid YAML ({type(error).__name__})"),))
    if not isinstance(data, dict) or not isinstance(data.get("services", {}), dict):
        return ComposeFile(name, troubles=((name, "is no compose file: it has no mapping `services`"),))
    variables: dict[str, bool] = {}
    troubles = [*_troubles(name, data), *_references(name, data, variables)]
    return ComposeFile(name, data, tuple(dict.fromkeys(troubles)), variables)


def _plain(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without words of the file: to YAML a password may be one that begins with `*` or `!`."""
    text = str(error.problem)
    if re.search(r"alias|anchor|tag", text):
        text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    return text


def _troubles(name: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not data.get("services") and not data.get("include"):
        yield name, "declares no service"
    for key in data:
        if key not in TOP_KEYS and not str(key).startswith("x-"):
            yield name, f"has the unknown top-level key `{key}`"
    for block, keys in BLOCK_KEYS.items():
        if not isinstance(data.get(block) or {}, dict):
            yield f"{name} {block}", "must hold keys"
        for child, value in _children(data, block):
            if value is not None and not isinstance(value, dict):
                yield f"{name} {block}.{child}", "must hold keys"
            for key in value if isinstance(value, dict) else ():
                if key not in keys and not str(key).startswith("x-"):
                    yield f"{name} {block}.{child}", f"has the unknown key `{key}`"
    for service, value in _children(data, "services"):
        place = f"{name} services.{service}"
        if not isinstance(value, dict):
            yield place, "must hold keys"
            continue
        if not _NAME.match(service):
            yield place, "has a name that Compose does not take"
        for key, content in value.items():
            if str(key).startswith("x-"):
                continue
            if key not in SERVICE_KEYS:
                yield place, f"has the unknown key `{key}`"
            elif trouble := shape_trouble(str(key), content):
                yield place, f"`{key}` {trouble}"


def together(files: list[ComposeFile]) -> Iterator[tuple[str, str]]:
    """Troubles of files that are laid over one another: services without image, references to nothing."""
    services: dict[str, dict[str, Any]] = {}
    declared: dict[str, set[str]] = {block: set() for block in ("volumes", "networks", "secrets", "configs")}
    for file in files:
        for service, value in _children(file.data, "services"):
            if isinstance(value, dict):
                services.setdefault(service, {}).update(value)
        for block in declared:
            declared[block] |= {child for child, _ in _children(file.data, block)}
    if any(file.data.get("include") for file in files):
        return  # what is included lies elsewhere
    names = ", ".join(file.name for file in files)
    called: set[str] = set()
    for service, value in services.items():
        place = f"{names} services.{service}"
        if not {"image", "build", "extends", "provider"} & set(value):
            yield place, "has neither `image` nor `build`"
        for other in _names(value.get("depends_on")):
            if other not in services:
                yield place, f"depends on `{other}`, which is no service"
        for other in _borrowed(value):
            if other not in services:
                yield place, f"takes from `{other}`, which is no service"
        own_name = str(value.get("container_name") or "")
        if own_name in called and "$" not in own_name:
            yield place, "has the `container_name` of another service"
        called |= {own_name} if own_name else set()
        if value.get("networks") and value.get("network_mode"):
            yield place, "has both `networks` and `network_mode`"
        if service in _needed(service, services):
            yield place, "depends on itself, by way of others"
        for block, own in (("networks", {"default"}), ("secrets", set()), ("configs", set())):
            for used in _names(value.get(block), "source"):
                if used not in declared[block] | own and "$" not in used:
                    yield place, f"uses `{used}`, which `{block}` does not declare"
        volumes = value.get("volumes")
        for volume in volumes if isinstance(volumes, list) else ():
            if (source := _named_volume(volume)) and source not in declared["volumes"]:
                yield place, f"uses the volume `{source}`, which `volumes` does not declare"


def _borrowed(value: Mapping[str, Any]) -> list[str]:
    """Services that a service shares something of or is made from."""
    found = []
    for key in ("network_mode", "ipc", "pid"):
        kind, _, other = str(value.get(key)).partition(":")
        found += [other] if kind == "service" else []
    found += [
        one.split(":")[0] for one in _names(value.get("volumes_from")) if not one.startswith("container:")
    ]
    found += [one.split(":")[0] for one in _names(value.get("links"))]
    base = value.get("extends")
    if isinstance(base, str) or (isinstance(base, dict) and "file" not in base):
        found.append(base if isinstance(base, str) else str(base.get("service")))
    return [one for one in found if "$" not in one]


def _needed(service: str, services: Mapping[str, dict[str, Any]]) -> set[str]:
    """All that a service depends on, and what those do."""
    found: set[str] = set()
    stack = _names(services[service].get("depends_on"))
    while stack:
        one = stack.pop()
        if one not in found:
            found.add(one)
            stack += _names(services.get(one, {}).get("depends_on"))
    return found


def _children(data: Mapping[str, Any], block: str) -> Iterator[tuple[str, Any]]:
    found = data.get(block)
    if isinstance(found, dict):
        for name, value in found.items():
            yield str(name), value


def _names(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [str(name) for name in value]
    if not isinstance(value, list):
        return []
    return [
        str(one.get(key)) if isinstance(one, dict) else str(one)
        for one in value
        if not isinstance(one, dict) or key in one
    ]


def _named_volume(volume: Any) -> str:
    """The name of the volume that a mount uses; "" for folders of the host, tmpfs and anonymous volumes."""
    if isinstance(volume, dict):
        source = str(volume.get("source") or "") if volume.get("type", "volume") == "volume" else ""
    else:
        source = str(volume).split(":")[0] if ":" in str(volume) else ""
    return "" if not source or source[0] in "./~$" or "$" in source else source


def _references(name: str, data: Any, variables: dict[str, bool]) -> Iterator[tuple[str, str]]:
    """Collect the variables in every text; shared (aliased) parts are visited once."""
    seen: set[int] = set()
    stack: list[Any] = [data]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield from _interpolations(name, one, variables)
        elif isinstance(one, (dict, list)) and id(one) not in seen:
            seen.add(id(one))
            stack += one.values() if isinstance(one, dict) else one
    for _, service in _children(data, "services"):
        environment = service.get("environment") if isinstance(service, dict) else None
        if isinstance(environment, dict):  # a name without a value is passed on from the caller's environment
            passed = [str(key) for key, value in environment.items() if value is None]
        else:
            listed = environment if isinstance(environment, list) else []
            passed = [one for one in listed if isinstance(one, str) and "=" not in one]
        for variable in passed:
            variables.setdefault(variable, False)


def _interpolations(name: str, text: str, variables: dict[str, bool]) -> Iterator[tuple[str, str]]:
    for found in _VARIABLE.finditer(text):
        if found["bad"]:
            yield name, "holds `${` that starts no valid variable"
        variable = found["plain"] or found["name"]
        if variable:
            needed = (found["sign"] or "?")[-1] == "?"
            variables[variable] = variables.get(variable, False) or needed
