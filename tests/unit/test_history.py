"""The newest passing drill of a series, found newest first, whatever else lies in the output folder."""

import json
from pathlib import Path

from harness.model import Artifact
from harness.run.history import History


def drill(output, number, *entries):
    folder = output / "drills" / f"{number:06d}"
    folder.mkdir(parents=True)
    backups = [
        {"path": p, "component": "postgres", "format": "plain", "verdict": v, "n": number} for p, v in entries
    ]
    (folder / "evidence.json").write_text(json.dumps({"backups": backups}))


def asked(output, path):
    entry = History(output).last_good(Artifact(Path(path), "postgres", "plain"))
    return entry and entry["n"]


def test_the_newest_pass_of_the_same_series_wherever_it_lies(tmp_path):
    drill(tmp_path, 1, ("/old/gateway-20261101-020000.sql.gz", "pass"))
    drill(tmp_path, 2, ("/b/gateway-20261102-020000.sql.gz", "pass"), ("/b/other-20261102.sql", "pass"))
    drill(tmp_path, 3, ("/b/gateway-20261103-020000.sql.gz", "fail"))
    assert asked(tmp_path, "/new/gateway-20261104-020000.sql.gz") == 2
    assert asked(tmp_path, "/b/third-20261104.sql") is None


def test_damaged_and_missing_records_count_as_none(tmp_path):
    assert asked(tmp_path, "/b/gateway-20261104.sql") is None
    drill(tmp_path, 1, ("/b/gateway-20261101.sql", "pass"))
    for number, text in (
        (2, "{"),
        (3, "[]"),
        (4, '{"backups": [{"verdict": "pass"}]}'),
        (5, '{"backups": 7}'),
    ):
        (tmp_path / "drills" / f"{number:06d}").mkdir()
        (tmp_path / "drills" / f"{number:06d}" / "evidence.json").write_text(text)
    assert asked(tmp_path, "/b/gateway-20261104.sql") == 1


def test_no_further_back_than_asked(tmp_path):
    drill(tmp_path, 1, ("/b/gateway-20261101.sql", "pass"))
    drill(tmp_path, 2, ("/b/gateway-20261102.sql", "pass"))
    history = History(tmp_path)
    (tmp_path / "drills/000001/evidence.json").write_text("unread")
    assert history.last_good(Artifact(Path("/b/gateway-20261103.sql"), "postgres", "plain"))["n"] == 2
