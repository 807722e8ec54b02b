"""Text of expressions and queries as the server prints it, made equal where a restore alone changes it.

The server prints an expression from its stored tree, and reading its own text back it builds another tree
for the same thing in two cases (seen on 15 to 18): a cast of an array goes to the elements,
`(ARRAY['a'::varchar])::text[]` becoming `ARRAY[('a'::varchar)::text]`, which any `varchar IN (...)` meets;
and `((a AND b) AND c)` becomes `(a AND b AND c)`. So a first-generation database and its restored copy differ
in text. From 16 on the server also leaves out qualifiers that 15 prints.
"""

from __future__ import annotations

import re
from typing import Final

_DEEPEST: Final = 200  # nesting beyond which a text is taken as it is
_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")+" | [()\[\]] | :: | , | \s+ | [^\W\d][\w$]*
    | [^\s()\[\],'":]+ | [:'"]""",
    re.X | re.S,
)
# A qualifier: an identifier and a dot, when another identifier or * follows. String literals are skipped.
_QUALIFIER: Final = re.compile(
    r"""('(?:[^']|'')*')|(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\.(?=[^\W\d]|"|\*)""", re.S
)
_CLOSING: Final = {"(": ")", "[": "]"}


class _Group(list["str | _Group"]):
    """What stands between a pair of brackets; `mark` is the opening one ("" for the whole text)."""

    def __init__(self, mark: str, items: list[str | _Group] | None = None) -> None:
        super().__init__(items or [])
        self.mark = mark


def unqualified(text: str) -> str:
    """A query's text without the qualifiers before names; string literals stay as they are."""
    return _QUALIFIER.sub(lambda found: found[1] or "", text)


def canonical(text: str) -> str:
    """`text` with array casts at the elements, nested ANDs and ORs flat; anything unusual stays as it is."""
    if "ARRAY[" not in text and "((" not in text:
        return text
    tree = _parse(text)
    return text if tree is None else _written(_settled(tree))


def _parse(text: str) -> _Group | None:
    stack = [_Group("")]
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in _CLOSING:
            group = _Group(token)
            stack[-1].append(group)
            stack.append(group)
            if len(stack) > _DEEPEST:
                return None
        elif token in (")", "]"):
            if len(stack) < 2 or _CLOSING[stack[-1].mark] != token:
                return None
            stack.pop()
        else:
            stack[-1].append(token)
    return stack[0] if len(stack) == 1 else None


def _settled(group: _Group) -> _Group:
    items = [_settled(item) if isinstance(item, _Group) else item for item in group]
    return _flat(_Group(group.mark, _cast_elements(items)))


def _cast_elements(items: list[str | _Group]) -> list[str | _Group]:
    """`(ARRAY[a, b])::t[]` -> `ARRAY[(a)::t, (b)::t]`, wherever it stands among the items."""
    made: list[str | _Group] = []
    at = 0
    while at < len(items):
        item, end = items[at], at + 1
        array = _array(item)
        if array is not None and end < len(items) and items[end] == "::":
            stop = end + 1
            while stop < len(items) and _of_type(items[stop]):
                stop += 1
            last = items[stop] if stop < len(items) else None
            if isinstance(last, _Group) and last.mark == "[" and not last and stop > end + 1:
                made += ["ARRAY", _pushed(array, items[end + 1 : stop])]
                at = stop + 1
                continue
        made.append(item)
        at += 1
    return made


def _array(item: str | _Group) -> _Group | None:
    """The elements when the item is `(ARRAY[...])`."""
    if isinstance(item, _Group) and item.mark == "(" and len(item) == 2 and item[0] == "ARRAY":
        inner = item[1]
        return inner if isinstance(inner, _Group) and inner.mark == "[" else None
    return None


def _of_type(item: str | _Group) -> bool:
    """Words, dots, spaces and a length in brackets: the name of a type."""
    if isinstance(item, _Group):
        return item.mark == "(" and all(isinstance(i, str) for i in item)
    return bool(re.fullmatch(r'[\w$. ]+|"(?:[^"]|"")+"', item))


def _pushed(elements: _Group, type_name: list[str | _Group]) -> _Group:
    made = _Group("[")
    for number, element in enumerate(_split(elements, ",")):
        space: list[str | _Group] = [" "] if number else []
        bare = [i for i in element if not (isinstance(i, str) and i.isspace())]
        if len(bare) == 2 and bare[0] == "ARRAY" and isinstance(bare[1], _Group):
            pushed: list[str | _Group] = ["ARRAY", _pushed(bare[1], type_name)]
        else:
            pushed = [_Group("(", _stripped(element)), "::", *type_name]
        made += [*([","] if number else []), *space, *pushed]
    return made


def _split(items: list[str | _Group], at: str) -> list[list[str | _Group]]:
    parts: list[list[str | _Group]] = [[]]
    for item in items:
        if item == at:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _stripped(items: list[str | _Group]) -> list[str | _Group]:
    first, last = 0, len(items)
    while first < last and isinstance(items[first], str) and str(items[first]).isspace():
        first += 1
    while last > first and isinstance(items[last - 1], str) and str(items[last - 1]).isspace():
        last -= 1
    return items[first:last]


def _flat(group: _Group) -> _Group:
    """`((a AND b) AND c)` -> `(a AND b AND c)`; the first operand alone, as the server's grammar does."""
    for word in ("AND", "OR"):
        while word in group:
            first = _stripped(_split(group, word)[0])
            inner = first[0] if len(first) == 1 else None
            if not isinstance(inner, _Group) or inner.mark != "(" or word not in inner:
                break
            other = "OR" if word == "AND" else "AND"
            if other in inner or other in group:
                break
            place = next(i for i, item in enumerate(group) if item is inner)
            group = _Group(group.mark, [*group[:place], *inner, *group[place + 1 :]])
    return group


def _written(group: _Group) -> str:
    inside = "".join(item if isinstance(item, str) else _written(item) for item in group)
    return f"{group.mark}{inside}{_CLOSING.get(group.mark, '')}"
