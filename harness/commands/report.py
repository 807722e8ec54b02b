"""`provado report`: the audit report of a period, or one past drill rendered again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..evidence.byproducts import Drill
    from ..evidence.verify import Judged


@click.command("report")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--since", metavar="DATE", help="First day (UTC), or an age as 90d. Default: 90d.")
@click.option("--until", metavar="DATE", help="Last day (UTC). Default: today.")
@click.option("--drill", type=int, help="Render the report of this drill again instead.")
@click.option("--trusted-key", "keys", metavar="FILE", multiple=True, type=click.Path(path_type=Path))
@click.option("--expect-head", metavar="HEAD", help="A head noted elsewhere: NUMBER:SHA256.")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Where to write the page.")
@click.option("--lang", type=click.Choice(["en", "pt-BR"]), help="Default: as provado.yaml says.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_context
def report(
    ctx: click.Context,
    folder: Path | None,
    since: str | None,
    until: str | None,
    drill: int | None,
    keys: tuple[Path, ...],
    expect_head: str | None,
    output: Path | None,
    lang: str | None,
    config: Path | None,
) -> None:
    """Write the audit report of a period: every drill that was begun in it, also failed, aborted and missed.

    DIR is the output folder of the drills (default: as provado.yaml says, else reports/). The exit code is
    that of `provado evidence verify`: 0 intact, 1 tampered with, 3 no trusted key.
    """
    from ..atomic import write_atomic
    from ..errors import ConfigError
    from ..settings import load_settings

    settings = load_settings(config)
    folder, lang = folder or settings.output, lang or settings.lang
    if drill is not None:
        target = output or folder / f"report-{drill:06d}.{lang}.html"
        _write(write_atomic, target, _again(folder, drill, lang))
        return
    from ..evidence.sign import load_trusted
    from ..evidence.verify import verify
    from ..report.period import render_period

    now = datetime.now(UTC)
    last = _moment(until, now, end=True) if until else now
    first = _moment(since or "90d", last)
    if first >= last:
        raise ConfigError("the period ends before it begins", remedy="give --since a day before --until")
    judged = verify(folder, [load_trusted(k) for k in keys], expect_head)
    page = render_period(_period(judged, folder, first, last, now), lang, settings.policy.timezone)
    name = f"audit-{first:%Y%m%d}-{last:%Y%m%d}.{lang}.html"
    _write(write_atomic, output or folder / name, page)
    ctx.exit(judged.exit_code)


def _write(write: Any, target: Path, page: str) -> None:
    from ..errors import ConfigError

    try:
        write(target, page)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(target)) from None
    click.echo(str(target))


def _again(folder: Path, drill: int, lang: str) -> str:
    from ..errors import ConfigError
    from ..report.html import render

    evidence = _evidence(folder, drill)
    if evidence is None:
        raise ConfigError(
            f"there is no evidence of drill {drill}",
            where=str(folder),
            remedy="it was aborted, its files have expired, or another output folder holds it",
        )
    return render(evidence, lang)


def _evidence(folder: Path, drill: int) -> dict[str, Any] | None:
    import json

    try:
        found = json.loads((folder / "drills" / f"{drill:06d}" / "evidence.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("backups"), list) else None


def _period(judged: Judged, folder: Path, first: datetime, last: datetime, now: datetime) -> dict[str, Any]:
    begin, end = _iso(first), _iso(last)
    return {
        "since": begin,
        "until": end,
        "made_at": _iso(now),
        "ledger": {
            "exit_code": judged.exit_code,
            "head": str(judged.head) if judged.head else None,
            "signed": judged.signed,
            "problems": [p.message for p in judged.problems],
        },
        "drills": [_drill(d, folder) for d in judged.drills if begin <= d.started_at <= end],
    }


def _drill(drill: Drill, folder: Path) -> dict[str, Any]:
    from ..report.controls import proven_facts

    evidence = _evidence(folder, drill.number) if drill.verdict in ("pass", "fail") else None
    judged = drill.verdict in ("pass", "fail")
    records = f"{drill.record}–{drill.finished_record}" if drill.finished_record else str(drill.record)
    return {
        "number": drill.number,
        "started_at": drill.started_at,
        "verdict": drill.verdict,
        "reason": drill.summary.get("reason"),
        "records": records,
        "backups": list(drill.summary.get("backups") or ()),
        "notes": [{"note": None, "text": "", "reason": "", "link": "", **n} for n in drill.notes],
        "facts": (sorted(proven_facts(evidence)) if evidence else []) if judged else None,
    }


def _moment(text: str, until: datetime, *, end: bool = False) -> datetime:
    """A day (its end with `end`), or an age before `until`. Raises ConfigError for anything else."""
    from ..errors import ConfigError
    from ..settings.types import duration_s

    try:
        return until - timedelta(seconds=float(duration_s(text)))
    except ValueError:
        pass
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no date", remedy="write 2026-11-24, or an age as 90d") from None
    day = day if day.tzinfo else day.replace(tzinfo=UTC)
    return day + timedelta(days=1, milliseconds=-1) if end and len(text) <= 10 else day


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
