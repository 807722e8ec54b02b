r"""What a dump must never do: statements and meta-commands that act outside the database being restored.

pg_dump writes none of these, so each one is a finding; those that would reach the server's files, other
programs or a network are refused. (CVE-2025-8714, CVE-2025-8715, CVE-2026-18408 are about such dumps.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..model import Severity
from .patterns import NAME


@dataclass(frozen=True)
class Danger:
    """Why a statement or meta-command is dangerous. `refuse`: it is not sent to the server."""

    kind: str
    message: str
    severity: Severity
    refuse: bool


_CATALOG_CHANGED: Final = Danger(
    "catalog", "changes the server's own catalogs, past all its rules", Severity.CRITICAL, True
)
_WORD: Final = re.compile(rb"[A-Za-z]+")
_HIDING: Final = re.compile(  # what may hide a keyword from a search, or look like one
    rb"""--[^\n]*|/\*|(?<![\w$\x80-\xff])[Ee]'(?:[^'\\]|\\.|'')*'|'[^']*'|"[^"]*"|"""
    rb"""(?<![\w$\x80-\xff])\$((?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?)\$.*?\$\1\$""",
    re.S,
)
_COMMENT_MARK: Final = re.compile(rb"/\*|\*/")
_CALL: Final = re.compile(rb"\s*\(")
_COPY_STDIN: Final = re.compile(rb"\bFROM\s+STDIN\b", re.I)
_LANGUAGE: Final = re.compile(rb'\bLANGUAGE\s+(?:"([^"]+)"|\'([^\']+)\'|(\w+))', re.I)
_PLAIN_LANGUAGE: Final = re.compile(rb"\bLANGUAGE\s+(\w+)", re.I)
_LIBRARY: Final = re.compile(rb"\bAS\s+'([^']*)'", re.I)
_TRUSTED: Final = {b"sql", b"plpgsql", b"internal", b"c", b"plperl", b"pltcl", b"plv8", b"plrust"}
_REACH: Final = re.compile(  # functions that touch files, programs, other servers, or the server itself
    rb"\b(pg_read_(?:server_)?file|pg_read_binary_file|pg_ls_\w+|pg_stat_file|pg_file_\w+|lo_import|lo_export|"
    rb"dblink\w*|pg_execute_server_program|pg_reload_conf|pg_rotate_logfile|pg_terminate_backend|"
    rb"pg_cancel_backend|pg_promote|pg_switch_wal|adminpack|pg_sleep\w*|pg_logical_emit_message|"
    rb"pg_create_\w*replication_slot|query_to_xml|database_to_xml|ts_stat|loread)\s*\(",
    re.I,
)
_PROGRAM: Final = re.compile(rb"\bCOPY\b.{0,4000}?\b(?:TO|FROM)\s+PROGRAM\b", re.I | re.S)
_OWN_SELECTS: Final = re.compile(  # what pg_dump itself calls
    rb"SELECT\s+(?:\*\s+FROM\s+)?(?:pg_catalog\.)?(?:set_config\s*\(\s*'search_path'|(?:setval|lo_create|lo_open|"
    rb"lowrite|lo_close|lo_put|lo_from_bytea|lo_unlink|pg_extension_config_dump|binary_upgrade\w*|"
    rb"pg_restore_\w+_stats)\s*\()"
    rb"|SELECT\s+CASE WHEN EXISTS\(SELECT 1 FROM pg_catalog.pg_largeobject_metadata",
    re.I,
)
_ALTER_TABLE: Final = re.compile(rb"ALTER\s+(?:FOREIGN\s+)?TABLE\s", re.I)
_AS_PG_DUMP: Final = re.compile(  # what it writes of a table behind rows
    rb"ALTER (?:FOREIGN )?TABLE (?:IF EXISTS )?(?:ONLY )?" + NAME + rb"(?:\." + NAME + rb")?\s+"
    rb"(?:ADD (?:CONSTRAINT|PRIMARY KEY|UNIQUE|FOREIGN KEY|CHECK|EXCLUDE)\b|OWNER TO |(?:ENABLE|DISABLE|FORCE"
    rb"|NO FORCE) |CLUSTER ON |REPLICA IDENTITY |ATTACH PARTITION |SET \(|VALIDATE CONSTRAINT |INHERIT "
    rb"|ALTER (?:COLUMN )?" + NAME + rb" (?:SET (?:STATISTICS|STORAGE|DEFAULT|NOT NULL|COMPRESSION|\()"
    rb"|DROP DEFAULT|ADD GENERATED ))",
    re.I,
)
_RENAMES: Final = re.compile(rb"\sRENAME\s|\sSET\s+SCHEMA\s", re.I)
_EVENTS: Final = re.compile(rb"CREATE\s+EVENT\s+TRIGGER\s", re.I)
_ALTER_TYPE: Final = re.compile(rb"ALTER\s+(?:TYPE|DOMAIN)\s(?!.*\sOWNER\s+TO\s)", re.I | re.S)
_FILLS: Final = re.compile(  # runs a query
    rb"CREATE\s+(?:MATERIALIZED\s+VIEW"
    rb"|(?:(?:LOCAL|GLOBAL|TEMP|TEMPORARY|UNLOGGED)\s+)*TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    + NAME + rb"(?:\." + NAME + rb")?\s+AS)\s",
    re.I,
)  # fmt: skip
_FIRES: Final = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:(?:CONSTRAINT\s+)?TRIGGER|RULE)\s", re.I)
_SUBSCRIPTION: Final = re.compile(rb"\bconnect\s*=\s*'?(?:false|off|0|no)\b", re.I)
_ENABLE: Final = re.compile(rb"ALTER\s+SUBSCRIPTION\s.*\s(?:ENABLE|REFRESH)", re.I | re.S)

_STRINGS: Final = re.compile(rb"set_config\s*\(\s*'standard_conforming_strings'", re.I)
_CATALOG: Final = re.compile(  # the system catalogs, which only DDL may change
    rb"(?:COPY|UPDATE|DELETE\s+FROM|(?:INSERT|MERGE)\s+INTO|TRUNCATE(?:\s+TABLE)?)\s+(?:ONLY\s+)?(?:\"?pg_catalog\"?\s*\.|\"?pg_(?:authid|auth_members|database|"
    rb"db_role_setting|proc|class|attribute|largeobject\w*|trigger|event_trigger|rewrite|shadow|user|roles)\b)",
    re.I,
)
_POWER: Final = re.compile(  # membership or attribute that lets a role reach the server's files and programs
    rb"(?:CREATE|ALTER)\s+(?:ROLE|USER|GROUP)\s(?!\s*(?:MAPPING|postgres)\s).*\sSUPERUSER\b"
    rb"|GRANT\s[^;]*?\"?\bpg_(?:execute_server_program|(?:read|write)_server_files)\b[^;]*?\sTO\s",
    re.I | re.S,
)
_TEMPLATE_FLAG: Final = re.compile(  # pg_dumpall --clean, before it drops and recreates template1
    rb"UPDATE pg_catalog\.pg_database SET (?:datistemplate|datconnlimit)\b", re.I
)
_CONNECT: Final = re.compile(r"\\c(?:onnect)?(?:\s+-reuse-previous=\w+)?(?:\s+(.*))?$", re.S)
# One database name and nothing else: psql takes user, host and port after it (`- USER`: pg_dump 7)
_DATABASE: Final = re.compile(
    r"""(?:-\s+)?(?:"dbname=(?:'(?:[^'\\]|\\.)*'|[^\s'"\\=]+)"|"(?:[^"=:]|"")+"|'(?:[^'=:]|'')+'|[^\s"'`|:=]+)"""
)
_TOKEN: Final = re.compile(r"\\(?:un)?restrict\s+[A-Za-z0-9]+$")
_INERT: Final = re.compile(  # how psql reports and stops; nothing of what it sends or reads
    r"\\(?:set\s+(?:ON_ERROR_STOP\s+'?(?:on|1|true)'?|(?:ECHO|QUIET|VERBOSITY)(?:\s+'?\w+'?)?)|timing(?:\s+\w+)?"
    r"|(?:q?echo|warn)(?:\s[^\\`|:]*)?|pset\s+pager(?:\s+\w+)?|encoding\s+'?UTF-?8'?)\s*",
    re.I,
)
# pg_dump writes it on the line before a \connect to a database whose name has more than letters.
BEFORE_CONNECT: Final = Danger(
    "encoding", "a psql meta-command that pg_dump never writes", Severity.CRITICAL, False
)
POWER: Final = Danger(  # pg_dumpall writes such
    "power",
    "makes a role as mighty as the server itself; a dump of one database does not",
    Severity.HIGH,
    False,
)
_SHELL: Final = re.compile(
    r"\\(?:!|o\b|out\b|g\b|gx\b|w\b|write\b|copy\b|i\b|ir\b|include|setenv|s\b|e\b|ef\b|ev\b|edit|cd\b|lo_)|[`|]"
)


_OUTSIDE: Final = Danger(
    "function", "calls a function that reaches outside the database", Severity.CRITICAL, True
)
_MADE_TO: Final = Danger(
    "function", "an object that calls a function which reaches outside the database", Severity.MEDIUM, False
)


def bare(text: bytes, *, names: bool = False) -> bytes:
    """A statement without what may hide or imitate keywords: comments become blanks, strings empty.

    Quoted names become empty too, except where they name a function that is called; with `names` they stay.
    """
    out, at = [], 0
    while found := _HIDING.search(text, at):
        out.append(text[at : found.start()])
        at, first = found.end(), found[0][:1]
        if first == b'"' and names:
            out.append(found[0])
        elif first == b'"':
            called = _CALL.match(text, at) and text[found.start() - 2 : found.start()].upper() != b"U&"
            out.append(found[0][1:-1] if called else b'""')
        elif first in (b"-", b"/"):
            depth = 1 if first == b"/" else 0
            while depth and (mark := _COMMENT_MARK.search(text, at)):
                depth, at = depth + (1 if mark[0] == b"/*" else -1), mark.end()
            out.append(b" ")
        else:
            out.append(b"''")
    out.append(text[at:])
    return b"".join(out).lstrip()


def classify(statement: bytes) -> Danger | None:
    """The danger in one SQL statement, None for what a dump may hold."""
    word = _WORD.match(statement) or _WORD.match(bare(statement).lstrip(b"( \t\r\n"))
    rule = _RULES.get(word[0].upper()) if word else None
    return rule(statement) if rule else None


def classify_meta(text: str) -> Danger | None:
    r"""The danger in a psql meta-command; None for `\connect`, `\restrict`, `\unrestrict` and a lone `\.`."""
    if _TOKEN.match(text) or text == "\\.":
        return None
    if text == "\\encoding SQL_ASCII":
        return BEFORE_CONNECT
    if (connect := _CONNECT.match(text)) and not _SHELL.search(text[2:]):
        if _DATABASE.fullmatch(connect[1] or ""):
            return None
        return Danger(
            "connect",
            "connects to another server or as another user while restoring",
            Severity.CRITICAL,
            True,
        )
    if _SHELL.search(text):
        return Danger(
            "shell",
            "a psql meta-command that runs programs or touches files on the machine that restores",
            Severity.CRITICAL,
            True,
        )
    if _INERT.fullmatch(text):
        return Danger("meta", "a psql setting that pg_dump never writes", Severity.MEDIUM, False)
    return Danger("meta", "a psql meta-command that pg_dump never writes", Severity.CRITICAL, True)


def _copy(text: bytes) -> Danger | None:
    plain = bare(text)
    if re.search(rb"\b(?:TO|FROM)\s+PROGRAM\b", plain, re.I):
        return Danger("program", "COPY ... PROGRAM runs a command on the server", Severity.CRITICAL, True)
    if not _COPY_STDIN.search(plain):
        return Danger("server-file", "COPY reads or writes a file of the server", Severity.CRITICAL, True)
    return _catalog(text)


def _catalog(text: bytes) -> Danger | None:
    begin = text[:400]
    if b"pg_" in begin and _CATALOG.match(bare(begin, names=True)) and not _TEMPLATE_FLAG.match(begin):
        return _CATALOG_CHANGED
    return None


def _alter(text: bytes) -> Danger | None:
    text = bare(text)
    if re.match(rb"ALTER\s+SYSTEM\b", text, re.I):
        return Danger(
            "alter-system", "ALTER SYSTEM changes the server's configuration", Severity.CRITICAL, True
        )
    if _ENABLE.match(text):
        return Danger(
            "subscription", "starts replication from another server while restoring", Severity.HIGH, True
        )
    if re.match(rb"ALTER\s+(?:(?:FOREIGN\s+)?TABLE|DOMAIN)\b", text, re.I) and _REACH.search(text):
        return _MADE_TO if re.search(rb"\sSET\s+DEFAULT\s", text, re.I) else _OUTSIDE
    return POWER if _POWER.match(text) else None


def _grant(text: bytes) -> Danger | None:
    return POWER if b"_server_" in text and _POWER.match(bare(text, names=True)) else None


def _create(text: bytes) -> Danger | None:
    plain = bare(text)
    if re.match(rb"CREATE\s+SUBSCRIPTION\b", plain, re.I) and not _SUBSCRIPTION.search(
        re.sub(rb"CONNECTION\s+'(?:[^']|'')*'", b"", text, flags=re.I)
    ):
        return Danger(
            "subscription", "connects to another server while restoring (connect = true)", Severity.HIGH, True
        )
    if _POWER.match(plain):
        return POWER
    if not re.match(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b", plain, re.I):
        if not _REACH.search(plain):
            return None
        runs = bool(_FILLS.match(bare(text, names=True))) and not plain.rstrip().upper().endswith(
            b"WITH NO DATA"
        )
        return _OUTSIDE if runs or re.match(rb"CREATE\s+(?:UNIQUE\s+)?INDEX\b", plain, re.I) else _MADE_TO
    language = language_of(text, plain)
    if language == b"c":
        library = _LIBRARY.search(text)
        if library and not library[1].startswith(b"$libdir/") and b"/" in library[1]:
            return Danger("library", "loads a library from outside the server's own", Severity.CRITICAL, True)
    if language not in _TRUSTED:
        return Danger(
            "untrusted-language",
            f"a function in the untrusted language {language.decode('utf-8', 'replace')}",
            Severity.MEDIUM,
            False,
        )
    if _PROGRAM.search(text):
        return Danger(
            "program-in-function", "a function that runs a program through COPY", Severity.HIGH, False
        )
    return None


def language_of(statement: bytes, plain: bytes) -> bytes:
    """Language of a function that is made; `plain` is the statement as `bare` gives it."""
    named = _PLAIN_LANGUAGE.search(plain) or _LANGUAGE.search(statement)
    return next((n for n in named.groups() if n), b"").lower() if named else b"sql"


def _do(text: bytes) -> Danger | None:
    if _PROGRAM.search(text) or _REACH.search(text) or re.search(rb"\bALTER\s+SYSTEM\b", text, re.I):
        return Danger("do", "a DO block that reaches outside the database", Severity.CRITICAL, True)
    if _CATALOG.search(text):
        return _CATALOG_CHANGED
    hidden = re.search(rb"\bEXECUTE\b", text, re.I)  # what it runs cannot be told by looking at it
    severity = Severity.HIGH if hidden else Severity.MEDIUM
    return Danger("do", "a DO block runs code while restoring; pg_dump writes none", severity, False)


def _select(text: bytes) -> Danger | None:
    plain = bare(text)
    if _REACH.search(plain) or b'U&""' in plain.upper():
        return _OUTSIDE
    if _OWN_SELECTS.match(text):
        return None
    if b"pg_" in text and _CATALOG.search(bare(text, names=True)):
        return _CATALOG_CHANGED
    if _STRINGS.search(text):
        return Danger(
            "strings", "changes how psql reads the quotes that follow; pg_dump does not", Severity.HIGH, False
        )
    return Danger("select", "a query runs while restoring; pg_dump writes none such", Severity.INFO, False)


def _insert(text: bytes) -> Danger | None:
    # A value list cannot call what is not written in it; strings are data.
    if _REACH.search(text) and _REACH.search(bare(text)):
        return _OUTSIDE
    return _catalog(text)


def _load(_: bytes) -> Danger:
    return Danger("library", "LOAD brings a library into the server", Severity.CRITICAL, True)


def _import(_: bytes) -> Danger:
    return Danger("foreign", "asks another server for its tables while restoring", Severity.HIGH, True)


def _set(text: bytes) -> Danger | None:
    if re.match(
        rb"SET\s+(?:SESSION\s+|LOCAL\s+)?(?:\w*_preload_libraries|dynamic_library_path)\b", text, re.I
    ):
        return Danger("library", "brings a library into the server", Severity.CRITICAL, True)
    return None


_RULES: Final = {
    b"COPY": _copy,
    b"ALTER": _alter,
    b"CREATE": _create,
    b"GRANT": _grant,
    b"DO": _do,
    b"SELECT": _select,
    b"WITH": _select,
    b"VALUES": _select,
    b"PREPARE": _select,
    b"DECLARE": _select,
    b"EXECUTE": _select,
    b"TABLE": _select,
    b"CALL": _select,
    b"EXPLAIN": _select,
    b"UPDATE": _insert,
    b"DELETE": _insert,
    b"MERGE": _insert,
    b"TRUNCATE": _insert,
    b"LOAD": _load,
    b"IMPORT": _import,
    b"SET": _set,
}


def classify_insert(statement: bytes) -> Danger | None:
    """The danger in an INSERT: asked for apart, since a dump may hold millions of them."""
    return _insert(statement)


def changes_rows_late(statement: bytes) -> bool:
    """True for statements that may change rows other than by loading them: early proofs are void then."""
    word = _WORD.match(statement)
    name = word[0].upper() if word else b""
    if name == b"SELECT":
        return not _OWN_SELECTS.match(statement)
    return name in (b"UPDATE", b"DELETE", b"MERGE", b"TRUNCATE", b"DO", b"CALL", b"WITH", b"EXECUTE")


def changes_reading(statement: bytes, rows: bool) -> bool:
    """True for what may change how rows read that are in (`rows`: some are): drops, renames, other types.

    What pg_dump writes of a table behind its rows is known, so that all else counts. An event trigger counts
    wherever it is made: pg_dump makes it last.
    """
    if not rows:
        return bool(_EVENTS.match(statement))
    word = _WORD.match(statement)
    name = word[0].upper() if word else b""
    if name == b"ALTER":
        if _ALTER_TABLE.match(statement):
            return not _AS_PG_DUMP.match(statement)
        return bool(_RENAMES.search(bare(statement))) or bool(_ALTER_TYPE.match(statement))
    if name == b"CREATE":
        filled = _FILLS.match(statement) and not statement.upper().endswith(b"WITH NO DATA")
        return bool(filled or _EVENTS.match(statement))
    return name == b"DROP"


def fires(statement: bytes) -> bool:
    """True for a trigger or rule: whatever rows come after it may change others."""
    return bool(_FIRES.match(statement))
