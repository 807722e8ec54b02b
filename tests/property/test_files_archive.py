"""The archive reader under any damage and any chunking: whole, or refused; never half, never outside."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.archive import unpack
from harness.errors import ArtifactError

NAMES = st.lists(
    st.text("abcé._-", min_size=1, max_size=60).filter(lambda part: part.strip(".")), min_size=1, max_size=3
).map("/".join)
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def made(files: dict[str, bytes], format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def flat(files: dict[str, bytes]) -> bool:
    """No name is another's folder (such archives are refused)."""
    return not any(other.startswith(name + "/") for name in files for other in files)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=5).filter(flat), FORMATS)
@settings(max_examples=60, deadline=None)
def test_whatever_tarfile_packs_comes_out_the_same(files: dict[str, bytes], format: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.tar")
        path.write_bytes(made(files, format))
        unpack(path, (), Path(name, "out"))
        assert contents(Path(name, "out")) == files


GOOD = made(
    {"d/nginx.conf": b"events {}" * 100, "d/b": b"2" * 513, "longo/" + "x" * 120: b"3"}, tarfile.GNU_FORMAT
)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@example(124, 0x80 ^ ord("0"))
@settings(max_examples=300, deadline=None)
def test_any_changed_byte_gives_a_refusal_or_files_inside(place: int, change: int) -> None:
    data = bytearray(GOOD)
    data[place] ^= change
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.tar")
        path.write_bytes(data)
        try:
            told = unpack(path, (), Path(name, "out"))
        except ArtifactError:
            told = None
        assert {p.name for p in Path(name).iterdir()} == {"a.tar", "out"}
        if told:
            assert {m.name: m.bytes for m in told.members} == {
                k: len(v) for k, v in contents(Path(name, "out")).items()
            }
            assert len(told.members) == 3


@given(st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_noise_is_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.tar")
        path.write_bytes(data)
        try:
            assert unpack(path, (), Path(name, "out")).members == ()
        except ArtifactError:
            return
        assert not any(data[:512])
