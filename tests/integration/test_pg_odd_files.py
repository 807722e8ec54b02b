"""Files as they are found: packed once more, appended to, padded, members gone. Only what is lost is told."""

import gzip
import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from live_servers import make_shop, postgres, query, url
from test_pg_load import END, HEAD, T, failing, judged  # noqa: F401

from harness import process
from harness.model import Verdict
from harness.postgres.contents import _Reader
from harness.sandbox import find_tools
from harness.settings import SandboxSettings


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database in every archive format."""
    folder = tmp_path_factory.mktemp("dumps")
    with postgres() as server:
        query(server, "postgres", "CREATE ROLE reader")
        make_shop(server, "shop")
        query(
            server, "shop", "SELECT lo_create(7001), lo_from_bytea(7002, 'content'), lo_from_bytea(7003, 'x')"
        )
        [tool, *_] = find_tools("pg_dump", SandboxSettings())
        env = {"PGPASSWORD": server.password.reveal()}
        for form in "cdt":
            args = [tool, f"-F{form}", "-x", "-d", url(server, "shop"), "-f", folder / form]
            done = process.run(args, timeout_s=60, env=env)
            assert done.code == 0, done.error_text()
    return folder


def tarred(folder: Path, inside: str, keep: Callable[[str], bool] = lambda name: True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for child in sorted(folder.iterdir()):
            if keep(child.name):
                archive.add(child, inside + child.name)
    return out.getvalue()


def without(path: Path, name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            if member.name != name:
                new.addfile(member, old.extractfile(member))
    return out.getvalue()


@pytest.mark.parametrize("inside", ["shop.dir/", "./", ""])
def test_a_directory_dump_packed_with_tar(inside, dumps, judged) -> None:  # noqa: F811
    evidence, verdict = judged(tarred(dumps / "d", inside), "shop.tar.gz")
    assert verdict is Verdict.PASS, evidence.findings
    assert evidence.artifact.format == "directory" and evidence.measured.rows == 3400


def test_a_packed_directory_without_a_member(dumps, judged) -> None:  # noqa: F811
    largest = max((dumps / "d").glob("*.dat.gz"), key=lambda p: p.stat().st_size).name
    evidence, verdict = judged(tarred(dumps / "d", "d/", lambda name: name != largest), "shop.tar.gz")
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.file-whole"}


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_without_its_contents(packed, dumps, judged) -> None:  # noqa: F811
    text = (
        tarred(dumps / "d", "d/", lambda name: name != "toc.dat")
        if packed
        else without(dumps / "t", "toc.dat")
    )
    evidence, verdict = judged(text, "shop.tar.gz" if packed else "shop.tar")
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.file-whole"}


def test_a_large_object_whose_content_is_gone(dumps, judged) -> None:  # noqa: F811
    evidence, verdict = judged(without(dumps / "t", "blob_7002.dat"), "shop.tar")
    assert verdict is Verdict.FAIL
    assert [f.object for f in evidence.findings if f.check == "pg.contents"] == ["large object 7002"]


def test_an_archive_appended_to_another(dumps, judged) -> None:  # noqa: F811
    once = (dumps / "c").read_bytes()
    evidence, verdict = judged(once, "once.dump")
    assert verdict is Verdict.PASS, evidence.findings
    edge = 13 + (1 << 20)  # files are looked through piece by piece
    for apart in (0, *(edge - len(once) - n for n in (13, 12, 6, 1, 0))):
        evidence, verdict = judged(once + b"\1" * apart + once, "twice.dump")
        assert verdict is Verdict.FAIL and failing(evidence) == {"pg.one-dump"}, apart


@pytest.mark.parametrize("behind", [b"\0" * 512, b"\x1a", b"\n\n", b"-- the end\n"])
def test_what_a_text_may_end_with(behind, judged) -> None:  # noqa: F811
    evidence, verdict = judged((HEAD + T + END).encode() + behind)
    assert verdict is Verdict.PASS and not failing(evidence, ("medium", "high", "critical"))


def test_zeros_instead_of_the_end(judged) -> None:  # noqa: F811
    evidence, verdict = judged((HEAD + T).encode() + b"\0" * 512)
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.dump-complete"}


@pytest.mark.parametrize(("behind", "said"), [(b"\n", False), (b"\0" * 512, False), (b"garbage", True)])
def test_bytes_behind_the_compressed_data(behind, said, judged) -> None:  # noqa: F811
    evidence, verdict = judged(gzip.compress((HEAD + T + END).encode()) + behind, "x.sql.gz")
    assert verdict is Verdict.PASS
    assert [f.check for f in evidence.findings if f.severity == "medium"] == ["pg.file-whole"] * said


@pytest.mark.parametrize("value", ["on", "off"])
def test_a_database_that_makes_psql_read_only(value, judged) -> None:  # noqa: F811
    create = (
        "CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8';\n"
        f"ALTER DATABASE shop SET default_transaction_read_only TO '{value}';\n\\connect shop\n\n"
    )
    evidence, verdict = judged(HEAD + create + T + END)
    assert failing(evidence) == ({"pg.read-only"} if value == "on" else set())
    assert (verdict is Verdict.FAIL) == (value == "on")


def test_settings_of_psql_are_told_and_nothing_more(judged) -> None:  # noqa: F811
    evidence, verdict = judged("\\set ON_ERROR_STOP on\n\\echo restoring\n" + HEAD + T + END)
    assert verdict is Verdict.PASS
    assert failing(evidence, ("medium", "high", "critical")) == {"pg.hostile"}


@pytest.mark.parametrize("kept", [True, False])
def test_line_breaks_in_the_names_of_schemas(kept, judged) -> None:  # noqa: F811
    """pg_dump writes them as blanks into its table of contents."""
    schema = '--\n-- Name: a b; Type: SCHEMA; Schema: -; Owner: -\n--\n\nCREATE SCHEMA "a\nb";\n\n'
    table = "--\n-- Name: c d; Type: TABLE; Schema: a b; Owner: -\n--\n\n"
    nothing = "SET default_tablespace = '';\n"
    made = 'CREATE TABLE "a\nb"."c\nd" (id int);\n\n' if kept else nothing
    evidence, verdict = judged(HEAD + T + schema + table + made + END)
    assert (verdict is Verdict.PASS) == kept, evidence.findings
    assert ("pg.objects" in failing(evidence)) == (not kept)


def with_count(data: bytes, more: int) -> bytes:
    """An archive's contents that say they hold so many more entries."""
    file = io.BytesIO(data)
    read = _Reader(file)
    read.exactly(12)
    for _ in range(7):
        read.number()
    read.texts(3)
    at = file.tell()
    return data[:at] + b"\0" + (read.number() + more).to_bytes(4, "little") + data[at + 5 :]


def with_number(data: bytes) -> bytes:
    """An archive whose entry of the table companies has another number than those that need it say."""
    oid = rb"\x00\x04\x00\x00\x001259\x00.\x00\x00\x00\d+"
    name = rb"\x00\x09\x00\x00\x00companies\x00\x05\x00\x00\x00TABLE\x00"
    found = re.search(rb"\x00(....)\x00....(?=" + oid + name + rb")", data, re.S)
    assert found is not None
    return data[: found.start(1)] + (99999).to_bytes(4, "little") + data[found.end(1) :]


DAMAGE = {
    "an entry less": lambda data: with_count(data, -1),
    "another number": with_number,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_contents_that_lost_an_entry(damage, dumps, judged) -> None:  # noqa: F811
    """No checksum covers them, and pg_restore restores what they say without an error."""
    evidence, verdict = judged(DAMAGE[damage]((dumps / "c").read_bytes()), "shop.dump")
    assert verdict is Verdict.FAIL
    assert "pg.contents" in failing(evidence), evidence.findings
    assert "pg.statements" not in failing(evidence)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("form", ["folder", "tar.gz", "tar"])
def test_contents_of_a_folder_that_lost_an_entry(form, damage, dumps, judged, tmp_path) -> None:  # noqa: F811
    folder = tmp_path / "shop"
    shutil.copytree(dumps / "d", folder)
    (folder / "toc.dat").write_bytes(DAMAGE[damage]((folder / "toc.dat").read_bytes()))
    if form == "folder":
        packed = tarred(folder, "./")
        evidence, verdict = judged(packed, "shop.tar.gz")
    elif form == "tar.gz":
        evidence, verdict = judged(gzip.compress(with_contents(dumps / "t", DAMAGE[damage])), "shop.tar.gz")
    else:
        evidence, verdict = judged(with_contents(dumps / "t", DAMAGE[damage]), "shop.tar")
    assert verdict is Verdict.FAIL
    assert "pg.contents" in failing(evidence), evidence.findings


def with_contents(path: Path, damage: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            data = old.extractfile(member).read()
            data = damage(data) if member.name == "toc.dat" else data
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_rows_that_no_entry_names(dumps, judged, tmp_path) -> None:  # noqa: F811
    folder = tmp_path / "shop"
    shutil.copytree(dumps / "d", folder)
    (folder / "99999.dat.gz").write_bytes(gzip.compress(b"1\tx\n\\.\n\n\n"))
    (folder / "README").write_text("made by cron")
    evidence, verdict = judged(tarred(folder, ""), "shop.tar.gz")
    assert verdict is Verdict.PASS, evidence.findings
    told = [(f.object, f.severity) for f in evidence.findings if f.check == "pg.contents"]
    assert told == [("99999.dat.gz", "medium")]


@pytest.mark.parametrize("method", ["gzip", "lz4", "zstd"])
def test_large_objects_whose_files_are_cut(method, dumps, judged, tmp_path) -> None:  # noqa: F811
    """pg_restore takes what is there of lz4 and zstd, and an empty file for gzip, without an error."""
    tools = [
        tool for tool in find_tools("pg_dump", SandboxSettings()) if method == "gzip" or "celerp" in str(tool)
    ]
    if not tools:
        pytest.skip(f"no pg_dump here knows {method}")
    with postgres() as server:
        query(server, "postgres", "CREATE TABLE t (a int)")
        query(server, "postgres", "INSERT INTO t VALUES (1)")
        query(server, "postgres", "SELECT lo_from_bytea(7002, 'content'), lo_from_bytea(7003, '')")
        args = [tools[0], "-Fd", f"-Z{method}", "-d", url(server, "postgres"), "-f", tmp_path / "whole"]
        done = process.run(args, timeout_s=60, env={"PGPASSWORD": server.password.reveal()})
        assert done.code == 0, done.error_text()
    [file] = (tmp_path / "whole").glob("blob_7002.dat*")
    whole = file.read_bytes()
    evidence, verdict = judged(tarred(tmp_path / "whole", ""), "shop.tar.gz")
    assert verdict is Verdict.PASS, evidence.findings
    for kept in (b"" if method == "gzip" else whole[:-1], whole[: len(whole) // 2]):
        file.write_bytes(kept)
        evidence, verdict = judged(tarred(tmp_path / "whole", ""), "shop.tar.gz")
        assert verdict is Verdict.FAIL, (kept, evidence.findings)
        assert failing(evidence) & {"pg.contents", "pg.file-whole"}
