"""A user id that no user database names, as in `docker run --user 1234`: initdb works there all the same."""

import ctypes
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sandbox import find_tool, nameless
from harness.settings import SandboxSettings

UID = 54321
CALL = "import runpy, sys; m = runpy.run_path(sys.argv[1]); import os;" \
       "a = [*m['prefix'](), *sys.argv[2:]]; os.execv(a[0], a)"  # fmt: skip


def allowed() -> bool:
    """Whether an ordinary user may make a user namespace here."""
    child = os.fork()
    if child == 0:
        os.setresuid(UID, UID, UID)
        os._exit(ctypes.CDLL(None).unshare(0x10000000) != 0)
    return os.waitpid(child, 0)[1] == 0


def as_nameless(*words: str | Path) -> subprocess.CompletedProcess[str]:
    call = [
        "setpriv",
        f"--reuid={UID}",
        f"--regid={UID}",
        "--clear-groups",
        "env",
        *words,
    ]  # setpriv itself still may all
    return subprocess.run(call, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_a_user_with_a_name_needs_nothing() -> None:
    assert nameless.prefix() == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_initdb_under_a_nameless_user(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(UID)
    initdb = find_tool("initdb", SandboxSettings())
    pythons = [p for p in (sys.executable, "/usr/bin/python3") if as_nameless(p, "-c", "").returncode == 0]
    if not (allowed() and pythons and initdb and as_nameless(initdb, "--version").returncode == 0):
        pytest.skip("no user namespaces, Python or initdb for ordinary users here")
    home = Path("/var/tmp") / f"provado-nameless-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, UID, UID)
        module = home / "nameless.py"
        module.write_text(Path(nameless.__file__).read_text())
        options = ("-U", "postgres", "--no-sync", "--locale=C", "-E", "UTF8", "-D", home / "data")
        alone = as_nameless(initdb, *options)
        assert alone.returncode != 0 and str(UID) in alone.stderr
        done = as_nameless(pythons[0], "-c", CALL, module, initdb, *options)
        assert done.returncode == 0, done.stderr
        assert (home / "data/PG_VERSION").stat().st_uid == UID
    finally:
        shutil.rmtree(home)
