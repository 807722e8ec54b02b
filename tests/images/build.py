"""Make the images `postgres:<major>` and `redis:<major>` from Debian packages, without a registry.

    python tests/images/build.py          # start dockerd if none runs, build what is missing
    python tests/images/build.py --stop   # end the dockerd that an earlier call started

Needs root, and the Debian packages docker.io, iptables and mmdebstrap. Takes about a minute the first time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = Path(tempfile.gettempdir()) / "provado-test-dockerd"
SUITE, POSTGRES, REDIS = "bookworm", "15", "7"  # what Debian 12 has is what the Email Gateway runs
TOOLS = "base-files,coreutils,dash,findutils,grep,libc-bin,sed,util-linux"
# Half of the packages' bytes serve JIT compilation, Perl and character sets that no test needs.
UNUSED = (
    "usr/lib/*/libLLVM*",
    "usr/lib/*/libz3*",
    "usr/lib/*/perl*",
    "usr/lib/*/libperl*",
    "usr/share/perl*",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/lib/postgresql/*/lib/bitcode",
    "var/lib/apt",
)
USERS = """\
root:x:0:0::/root:/bin/sh
postgres:x:999:999::/var/lib/postgresql:/bin/sh
redis:x:998:998::/data:/bin/sh
"""
GROUPS = "root:x:0:\npostgres:x:999:\nredis:x:998:\n"


def main() -> int:
    """Build, or stop the daemon; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--stop", action="store_true", help="end the dockerd that this script started")
    if options.parse_args().stop:
        stop()
        return 0
    missing = [p for p in ("docker", "dockerd", "mmdebstrap") if not shutil.which(p)]
    if missing or os.geteuid() != 0:
        raise SystemExit(f"needs root and the packages docker.io, iptables, mmdebstrap (missing: {missing})")
    start()
    images = {f"postgres:{POSTGRES}": "postgres", f"redis:{REDIS}": "redis-server"}
    if all(docker("image", "inspect", name).returncode == 0 for name in images):
        return 0
    with tempfile.TemporaryDirectory(prefix="provado-images-") as folder:
        tar = Path(folder) / "root.tar"
        make_root(Path(folder) / "root")
        subprocess.run(["tar", "-C", f"{folder}/root", "-cf", tar, "."], check=True, timeout=300)
        for name, server in images.items():
            load(tar, name, server)
    return 0


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the docker client, quietly."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)


def start() -> None:
    """Have a container engine: the one that runs, or a dockerd of our own whose id is remembered."""
    if docker("info").returncode == 0:
        return
    STATE.mkdir(mode=0o700, exist_ok=True)
    with (STATE / "log").open("wb") as log:
        daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log, start_new_session=True)
    (STATE / "pid").write_text(str(daemon.pid), "ascii")
    for _ in range(240):
        if docker("info").returncode == 0:
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.25)
    raise SystemExit(f"dockerd does not run:\n{(STATE / 'log').read_text()[-2000:]}")


def stop() -> None:
    """End the dockerd whose id we remembered, if it still is one."""
    try:
        pid = int((STATE / "pid").read_text("ascii"))
        if Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "dockerd":
            os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    shutil.rmtree(STATE, ignore_errors=True)


def make_root(root: Path) -> None:
    """A root folder with both servers, their packages unpacked and not configured (fast, no chroot)."""
    packages = f"--include=postgresql-{POSTGRES},redis-server,{TOOLS}"
    command = ["mmdebstrap", "--quiet", "--variant=extract", packages, SUITE, str(root)]
    subprocess.run(command, check=True, timeout=900, stdout=sys.stderr)
    for pattern in UNUSED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / "etc/passwd").write_text(USERS, "ascii")
    (root / "etc/group").write_text(GROUPS, "ascii")
    (root / "data").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "docker-entrypoint.sh", root / "usr/local/bin")
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")


def load(tar: Path, name: str, server: str) -> None:
    """Import the root folder under a name, with the metadata of the official image."""
    path = f"/usr/local/bin:/usr/lib/postgresql/{POSTGRES}/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    postgres = server == "postgres"
    changes = [
        f"ENV PATH={path}",
        "ENV LANG=C.UTF-8",
        f"ENV DEFAULT_SERVER={server}",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        f'CMD ["{server}"]',
        *(("ENV PGDATA=/var/lib/postgresql/data", "VOLUME /var/lib/postgresql/data") if postgres else ()),
        *(() if postgres else ("WORKDIR /data", "VOLUME /data")),
        f"EXPOSE {5432 if postgres else 6379}",
    ]
    flags = [part for change in changes for part in ("--change", change)]
    done = docker("import", *flags, str(tar), name)
    if done.returncode:
        raise SystemExit(f"docker import of {name} failed: {done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
