"""Shell scripts: their syntax is right and they can be run. None is ever run here."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Iterator

from .. import process
from ..check import Check, NotRun, check
from ..model import Finding, Severity
from .facts import Entry
from .layout import is_script
from .restore import RestoredFiles

_SHELLS = ("bash", "dash", "sh", "ksh")
_NAMED = re.compile(rb"#!\s*(?:\S*/env\s+(?:-S\s+)?)?(?:[\w.+-]*/)*([\w.+-]+)")
_FOREIGN = re.compile(  # interpreters of other languages than sh's
    rb"(z|c|tc|fi)sh|python[\d.]*|pypy\d*|node(js)?|deno|bun|perl[\d.]*|ruby|php[\d.]*|[gmn]?awk|sed|make|expect|"
    rb"tclsh|lua[\d.]*|pwsh|osascript|Rscript|psql|uv|npx|tsx|rc|execlineb|jq|ansible-playbook"
)
_INTERPRETER = re.compile(  # those, and what runs a script of sh's
    rb"(ba|da|a|k|mk|pdk)?sh|busybox|env|true|false|nix-shell|bats|with-contenv|openrc-run|runscript|"
    + _FOREIGN.pattern
)


def _scripts(subject: RestoredFiles) -> list[tuple[Entry, bytes]]:
    found = [
        (file, data)
        for file in subject.facts.files()
        if file.bytes <= 1 << 20 and is_script(file.name, data := subject.data(file.name))
    ]
    if not found:
        raise NotRun("the backup holds no shell script")
    return found


def _shell(first: bytes) -> str:
    hit = re.match(rb"#!\s*\S*?(?:/env\s+)?(?:-\S+\s+)?(?:\S*/)?(\w+)", first)
    named = hit[1].decode("ascii", "replace") if hit else "sh"
    return named if named in _SHELLS else "sh" if named == "ash" else "bash"


@check(
    "files.script-syntax",
    proves="usability",
    severity="critical",
    remedy="correct the script on the source system (`bash -n` shows the same) and take the backup again",
)
def script_syntax(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """The shell can read every script (`bash -n`: parsed, nothing is run)."""
    looked = 0
    for file, data in _scripts(subject):
        if data.startswith(b"#!") and data.partition(b"\n")[0].endswith(b"\r"):
            yield self.finding(
                f"{file.name}:1", f"{file.name} has Windows line ends: its interpreter is not found"
            )
            looked += 1
            continue
        if b"\0" in data:
            yield self.finding(file.name, f"{file.name} holds NUL bytes: it is no text")
            looked += 1
            continue
        if (named := _NAMED.match(data)) and _FOREIGN.fullmatch(named[1]):
            continue
        own = shutil.which(_shell(data))
        bash = shutil.which("bash")
        if not own and not bash:
            continue
        looked += 1
        trouble = _refusal(own or bash or "", data)
        if trouble is None and bash and _ends_in_text(bash, data):
            yield self.finding(
                file.name, f"{file.name} ends inside a text (<<) whose last line is not there: it was cut"
            )
        if trouble is None:
            continue
        # Where sh is bash, a script for sh with bash's own syntax runs all the same.
        lenient = own is not None and bash is not None and own != bash and _refusal(bash, data) is None
        yield self.finding(
            f"{file.name}:{trouble}" if trouble else file.name,
            f"{file.name} has a syntax error for {(own or bash or '').rsplit('/', 1)[-1]}"
            + (", only bash understands it" if lenient else ""),
            severity=Severity.MEDIUM if lenient else None,
        )
    if not looked:
        raise NotRun("no script here is for a shell, or no shell is here to look at the scripts' syntax")


def _refusal(shell: str, script: bytes) -> str | None:
    """None when the shell can parse the script, else the line it complains about ("" when it names none)."""
    done = _read_by(shell, script)
    if not done.code:
        return None
    line = re.search(rb"(?:line |: )(\d+):", done.stderr)
    return line[1].decode() if line else ""


def _ends_in_text(bash: str, script: bytes) -> bool:
    """Whether a here-document has no end, which no shell takes for an error."""
    if b"<<" not in script:
        return False
    return b"delimited by end-of-file" in _read_by(bash, script).stderr


def _read_by(shell: str, script: bytes) -> process.Completed:
    # On standard input, so that no name of the backup stands on a command line. -n does not run `shopt`,
    # so extended patterns are switched on for scripts that do it themselves.
    argv = [shell, "-O", "extglob", "-n"] if shell.endswith("/bash") else [shell, "-n"]
    return process.run(argv, timeout_s=10, input=script, env={"BASH_ENV": "", "ENV": "", "LC_ALL": "C"})


@check(
    "files.script-modes",
    proves="usability",
    severity="high",
    remedy="chmod +x the script and give it a `#!` line; `cp -p` and tar keep the run bit",
)
def script_modes(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Scripts can be run: the run bit is set, and the first line names an interpreter."""
    for file, data in _scripts(subject):
        interpreter = _NAMED.match(data)
        if interpreter and not _INTERPRETER.fullmatch(interpreter[1]):
            name = interpreter[1][:40].decode("ascii", "replace")
            near = difflib.get_close_matches(name, _SHELLS, 1, 0.7)
            yield self.finding(
                f"{file.name}:1",
                f"{file.name} names an interpreter that is not in use anywhere"
                + (f": is {near[0]} meant?" if near else ""),
                severity=None if near else Severity.MEDIUM,
                observed=name,
            )
        if not data.strip():
            yield self.finding(
                file.name,
                f"{file.name} is empty",
                severity=Severity.CRITICAL,
                remedy="the copy failed (disk full?); take the backup again",
            )
        elif not data.startswith(b"#!"):
            if file.mode & 0o100:
                yield self.finding(
                    f"{file.name}:1",
                    f"{file.name} is to be run and names no interpreter in its first line",
                    severity=Severity.MEDIUM,
                )
        elif not file.mode & 0o100:
            yield self.finding(
                file.name,
                f"{file.name} has no run bit: called as the runbook calls it, it is refused",
                expected="0755",
                observed=f"{file.mode:04o}",
            )
        if file.mode & 0o002:
            yield self.finding(
                file.name, f"everybody may change {file.name}", severity=Severity.MEDIUM, expected="0755",
                observed=f"{file.mode:04o}", remedy="chmod o-w the script",
            )  # fmt: skip
