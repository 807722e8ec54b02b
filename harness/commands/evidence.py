"""`provado evidence`: keys, the ledger's offline check, and what people add to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..evidence.sign import Signer
    from ..evidence.verify import Judged

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_KEY = click.option(
    "--signing-key",
    metavar="file:PATH|env:NAME",
    help="Private key; by default PROVADO_SIGNING_KEY. Without one the record is not signed.",
)


@click.group("evidence")
def evidence() -> None:
    """Check, sign and annotate the ledger of drills."""


@evidence.command("verify")
@_FOLDER
@click.option(
    "--trusted-key",
    "keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key (PEM) you trust, kept outside DIR. Repeatable.",
)
@click.option("--expect-head", metavar="HEAD", help="A head noted elsewhere: NUMBER:SHA256.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify(
    ctx: click.Context, folder: Path, keys: tuple[Path, ...], expect_head: str | None, as_json: bool
) -> None:
    """Check the ledger in DIR (the output folder) offline.

    Exit codes: 0 intact, 1 tampered with (each sign is named), 2 usage, 3 nothing to judge by.
    """
    from ..evidence.sign import load_trusted
    from ..evidence.verify import verify as judge

    judged = judge(folder, [load_trusted(k) for k in keys], expect_head)
    if as_json:
        import json

        click.echo(json.dumps(_json(judged), indent=1, ensure_ascii=False))
    else:
        _print(judged)
    ctx.exit(judged.exit_code)


@evidence.command("keygen")
@click.option("--output", "prefix", metavar="PREFIX", required=True, type=click.Path(path_type=Path))
def keygen(prefix: Path) -> None:
    """Make an Ed25519 pair: PREFIX.key to sign with, PREFIX.pub to verify with."""
    from ..evidence.sign import generate

    private, public, keyid = generate(prefix)
    click.echo(f"{private}  private key, readable by you alone: sign with --signing-key file:{private}")
    click.echo(f"{public}  public key: give it to whoever verifies, apart from the evidence")
    click.echo(f"key id {keyid}")


@evidence.command("note")
@_FOLDER
@click.option("--drill", type=int, required=True, help="Number of the drill it is about.")
@click.option("--kind", type=click.Choice(["review", "ticket", "retest", "comment"]), default="comment")
@click.option("--by", required=True, help="Who says so.")
@click.option("--text", default="", help="What is said.")
@click.option("--link", default="", help="Address of the ticket, or number of the drill that retested it.")
@_KEY
def note(folder: Path, drill: int, kind: str, by: str, text: str, link: str, signing_key: str | None) -> None:
    """Add a review, a ticket, a retest or a comment to a drill's record."""
    from ..evidence import ledger

    _must_exist(folder)
    head = ledger.note(folder, kind, drill=drill, by=by, text=text, link=link, signer=_signer(signing_key))
    click.echo(f"ledger head {head}")


@evidence.command("expire")
@_FOLDER
@click.option("--drill", type=int, required=True, help="Number of the drill whose files are removed.")
@click.option("--by", required=True, help="Who decided it.")
@click.option("--reason", required=True, help="Why: the retention rule.")
@_KEY
def expire(folder: Path, drill: int, by: str, reason: str, signing_key: str | None) -> None:
    """Remove a drill's files at the end of their retention; digests and a tombstone stay in the chain."""
    from ..evidence import ledger

    _must_exist(folder)
    head = ledger.expire(folder, drill=drill, by=by, reason=reason, signer=_signer(signing_key))
    click.echo(f"ledger head {head}")


@evidence.command("rotate")
@_FOLDER
@click.option("--new-key", metavar="file:PATH|env:NAME", required=True, help="Private key to go over to.")
@click.option("--reason", default="", help="Why the key changes.")
@_KEY
def rotate(folder: Path, new_key: str, reason: str, signing_key: str | None) -> None:
    """Change the signing key; the record of it is signed with both keys."""
    from ..errors import ConfigError
    from ..evidence import ledger

    _must_exist(folder)
    old, new = _signer(signing_key), _signer(new_key)
    if old is None or new is None:
        raise ConfigError("both keys are needed to change over", remedy="give --signing-key and --new-key")
    click.echo(f"ledger head {ledger.rotate(folder, old, new, reason=reason)}")


def _signer(reference: str | None) -> Signer | None:
    from ..evidence.sign import load_signer

    return load_signer(reference)


def _must_exist(folder: Path) -> None:
    from ..errors import ConfigError
    from ..evidence.ledger import FOLDER

    if not (folder / FOLDER).is_dir():
        raise ConfigError("there is no ledger here", where=str(folder), remedy="name the output folder")


def _print(judged: Judged) -> None:
    for problem in judged.problems:
        click.echo(f"TAMPERED  {problem.code}: {problem.message}")
    for remark in judged.remarks:
        click.echo(f"note      {remark}")
    counts: dict[str, int] = {}
    for drill in judged.drills:
        counts[drill.verdict] = counts.get(drill.verdict, 0) + 1
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    click.echo(
        f"{judged.records} records, {len(judged.drills)} drills ({tally or 'none'}), head {judged.head}"
    )
    if judged.problems:
        click.echo(f"NOT to be trusted: {len(judged.problems)} signs of tampering")
    elif judged.trusted:
        click.echo(f"intact, by {judged.trusted}")
    elif judged.signed:
        click.echo("not judged: the chain fits, but without --trusted-key anyone could have written it")
    else:
        click.echo("not judged: the ledger is not signed; --expect-head with a head kept elsewhere would do")


def _json(judged: Judged) -> dict[str, Any]:
    return {
        "schema": "provado/ledger-check/1",
        "exit_code": judged.exit_code,
        "records": judged.records,
        "head": str(judged.head) if judged.head else None,
        "signed": judged.signed,
        "trusted": judged.trusted,
        "problems": [{"code": p.code, "record": p.record, "message": p.message} for p in judged.problems],
        "remarks": list(judged.remarks),
        "drills": [
            {"drill": d.number, "verdict": d.verdict, "started_at": d.started_at, "expired": d.expired}
            for d in judged.drills
        ],
    }
