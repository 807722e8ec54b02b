from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.evidence import history, ledger, sign, verify

EVIDENCE = {"verdict": "pass", "exit_code": 0, "backups": [{"name": "a.sql.gz", "measured": {"rto_s": 2.5}}]}


def drill(output: Path, signer: sign.Signer | None = None, run: str = "run") -> ledger.Head:
    entry = ledger.begin(output, run, signer=signer)
    (entry.folder / "evidence.json").write_text(json.dumps(entry.as_json()))
    return ledger.finish(entry, EVIDENCE)


def key(folder: Path, name: str) -> tuple[sign.Signer, sign.TrustedKey]:
    private, public, _ = sign.generate(folder / name)
    signer = sign.load_signer(f"file:{private}")
    assert signer
    return signer, sign.load_trusted(public)


def test_pae_is_the_one_of_the_dsse_specification() -> None:
    """The example of the DSSE protocol document."""
    assert sign.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_records_are_in_toto_statements_in_dsse_envelopes(tmp_path: Path) -> None:
    signer, public = key(tmp_path, "ops")
    drill(tmp_path / "r", signer)
    envelope = json.loads((tmp_path / "r/ledger/00000003.json").read_bytes())
    payload = base64.b64decode(envelope["payload"])
    statement = json.loads(payload)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [s["name"] for s in statement["subject"]] == ["drills/000001/evidence.json"]
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == public.keyid
    assert public.verifies(sign.pae(envelope["payloadType"], payload), base64.b64decode(signature["sig"]))
    assert not public.verifies(payload, base64.b64decode(signature["sig"]))


def test_by_products_are_recorded_and_published(tmp_path: Path) -> None:
    drill(tmp_path)
    drill(tmp_path)
    assert (tmp_path / "evidence.json").read_bytes() == (
        tmp_path / "drills/000002/evidence.json"
    ).read_bytes()
    assert json.loads((tmp_path / "evidence.json").read_text())["drill"] == 2


def test_without_a_key_the_ledger_says_so_and_needs_the_expected_head(tmp_path: Path) -> None:
    head = drill(tmp_path)
    judged = verify.verify(tmp_path)
    assert (judged.exit_code, judged.signed, judged.problems) == (3, False, ())
    told = json.loads((tmp_path / "evidence.json").read_text())
    assert (told["signed"], told["signature"], told["keyid"]) == (False, "not signed", None)
    assert verify.verify(tmp_path, expect_head=str(head)).exit_code == 0
    assert verify.verify(tmp_path, expect_head=head.sha256).exit_code == 0
    drill(tmp_path)
    later = verify.verify(tmp_path, expect_head=str(head))
    assert later.exit_code == 0
    assert "2 records are newer than the expected head" in later.remarks
    with pytest.raises(ConfigError):
        verify.verify(tmp_path, expect_head="abc")


def test_an_unsigned_ledger_fails_against_a_key(tmp_path: Path) -> None:
    _, public = key(tmp_path, "ops")
    drill(tmp_path / "r")
    assert {p.code for p in verify.verify(tmp_path / "r", [public]).problems} == {"unsigned", "head-changed"}


def test_a_signed_ledger_takes_no_other_key_and_no_unsigned_drill(tmp_path: Path) -> None:
    ours, public = key(tmp_path, "ops")
    other, _ = key(tmp_path, "other")
    drill(tmp_path / "r", ours)
    for signer in (None, other):
        with pytest.raises(ConfigError, match="signed with key"):
            drill(tmp_path / "r", signer)
    assert verify.verify(tmp_path / "r", [public]).exit_code == 0


def test_signing_may_begin_later(tmp_path: Path) -> None:
    drill(tmp_path / "r")
    signer, public = key(tmp_path, "ops")
    drill(tmp_path / "r", signer)
    judged = verify.verify(tmp_path / "r", [public])
    assert judged.exit_code == 0
    assert "the trusted key came in with record 4" in judged.remarks[0]
    edited = tmp_path / "r/ledger/00000002.json"
    edited.write_bytes(edited.read_bytes() + b" ")
    assert {p.code for p in verify.verify(tmp_path / "r", [public]).problems} == {"chain-broken"}


def test_rotation_leads_from_either_key_to_the_other(tmp_path: Path) -> None:
    old, old_public = key(tmp_path, "old")
    new, new_public = key(tmp_path, "new")
    _, stranger = key(tmp_path, "stranger")
    drill(tmp_path / "r", old)
    ledger.rotate(tmp_path / "r", old, new, reason="yearly")
    drill(tmp_path / "r", new)
    for trusted in (old_public, new_public):
        judged = verify.verify(tmp_path / "r", [trusted])
        assert judged.exit_code == 0, judged.problems
    assert verify.verify(tmp_path / "r", [old_public, new_public]).exit_code == 0
    assert verify.verify(tmp_path / "r", [stranger]).exit_code == 1


def test_a_key_that_did_not_sign_its_own_rotation_is_refused(tmp_path: Path) -> None:
    old, old_public = key(tmp_path, "old")
    new, new_public = key(tmp_path, "new")
    drill(tmp_path / "r", old)
    tip = ledger._read_tip(tmp_path / "r")
    assert tip
    body = {"keyid": new.keyid, "public_key": new.public_pem}
    ledger._append(tmp_path / "r", tip, "key", body, old, keyid=new.keyid)
    for trusted in (old_public, new_public):
        assert "bad-rotation" in {p.code for p in verify.verify(tmp_path / "r", [trusted]).problems}


def test_notes_and_expiry_stay_in_the_chain(tmp_path: Path) -> None:
    signer, public = key(tmp_path, "ops")
    out = tmp_path / "r"
    drill(out, signer)
    drill(out, signer)
    ledger.note(out, "review", drill=1, by="ana@example.com", text="seen", signer=signer)
    ledger.note(out, "ticket", drill=1, by="ana", link="https://tickets.example/7", signer=signer)
    ledger.expire(out, drill=1, by="retention", reason="5 years", signer=signer)
    judged = verify.verify(out, [public])
    assert judged.exit_code == 0, judged.problems
    assert [n.get("note", "expiry") for n in judged.drills[0].notes] == ["review", "ticket", "expiry"]
    assert judged.drills[0].expired
    assert not (out / "drills/000001").exists()
    with pytest.raises(ConfigError, match="no drill 3"):
        ledger.note(out, "review", drill=3, by="ana", signer=signer)


def test_head_one_behind_is_a_killed_run_and_is_made_good(tmp_path: Path) -> None:
    signer, public = key(tmp_path, "ops")
    out = tmp_path / "r"
    drill(out, signer)
    before = (out / "ledger/head.json").read_bytes()
    entry = ledger.begin(out, "x", signer=signer)
    (entry.folder / "evidence.json").write_text("second")
    started = (out / "ledger/head.json").read_bytes()
    assert not (out / "evidence.json").exists()  # no older answer stands for a run that may die
    ledger.finish(entry, EVIDENCE)
    (out / "ledger/head.json").write_bytes(started)  # as if killed after the record, before the rest
    judged = verify.verify(out, [public])
    assert (judged.exit_code, judged.remarks) == (0, ("a run was killed right after it wrote record 5",))
    (out / "evidence.json").write_text("half published")
    assert verify.verify(out, [public]).exit_code == 0
    drill(out, signer)
    assert verify.verify(out, [public]).exit_code == 0
    (out / "ledger/head.json").write_bytes(before)
    assert "head-changed" in {p.code for p in verify.verify(out, [public]).problems}


def test_history_is_read_from_the_chain(tmp_path: Path) -> None:
    drill(tmp_path)
    ledger.begin(tmp_path, "killed")
    drill(tmp_path)
    entry = ledger.begin(tmp_path, "now")
    past = history.history(tmp_path, without=entry.drill)
    assert [(d["drill"], d["verdict"]) for d in past] == [(1, "pass"), (2, "aborted"), (3, "pass")]
    assert past[0]["backups"][0]["rto_s"] == 2.5
    assert [d["drill"] for d in history.history(tmp_path, limit=1, without=entry.drill)] == [3]


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public, _ = sign.generate(tmp_path / "ops")
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    with pytest.raises(ConfigError, match="exists already"):
        sign.generate(tmp_path / "ops")


def test_a_named_key_that_is_no_key_stops_the_drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.key").write_text("hello")
    for reference in (f"file:{tmp_path / 'bad.key'}", f"file:{tmp_path / 'none'}", "env:NOT_SET_ANYWHERE"):
        with pytest.raises(ConfigError):
            sign.load_signer(reference)
    private, _, ident = sign.generate(tmp_path / "ops")
    monkeypatch.setenv("SIGN_HERE", private.read_text())
    signer = sign.load_signer(None, {"PROVADO_SIGNING_KEY": "env:SIGN_HERE"})
    assert signer and signer.keyid == ident
    assert sign.load_signer(None, {}) is None
    with pytest.raises(ConfigError, match="no Ed25519 public key"):
        sign.load_trusted(private)


def test_secrets_in_plans_and_notes_are_masked(tmp_path: Path) -> None:
    from harness.redact import Secret

    Secret("canary-7f3a9")
    # and a file name that is no UTF-8 stops nobody
    entry = ledger.begin(
        tmp_path, "r", plan={"url": "postgres://u:hunter22@h/db", "x": ["canary-7f3a9", "\udcff"]}
    )
    ledger.finish(entry, EVIDENCE)
    ledger.note(tmp_path, "comment", drill=1, by="a", text="the password is canary-7f3a9")
    for file in (tmp_path / "ledger").glob("0*.json"):
        payload = base64.b64decode(json.loads(file.read_bytes())["payload"])
        assert b"canary" not in payload
        assert b"hunter22" not in payload
