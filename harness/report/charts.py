"""Charts as inline SVG without script or style attributes; every one stands beside its figures in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Point:
    """One drill in a trend: `value` None when it has none (aborted, missed, nothing restored)."""

    label: str
    verdict: str  # pass, fail, inconclusive, aborted or missed
    value: float | None


def bar(start: float, length: float, kind: str = "") -> Markup:
    """A bar from `start` over `length`, both shares of one, across the whole width of its cell."""
    x, width = 300 * min(max(start, 0), 1), max(300 * min(max(length, 0), 1), 1.5)
    x = min(x, 300 - width)
    return Markup(
        '<svg class="bar" viewBox="0 0 300 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="300" height="12" rx="2"/>'
        '<rect class="fill {}" x="{:.1f}" width="{:.1f}" height="12" rx="2"/></svg>'
    ).format(kind, x, width)


def trend(
    title: str, points: Sequence[Point], top_label: str, objective: float | None, obj_label: str
) -> Markup:
    """A line over drills with a mark of its own shape per verdict, and the objective as a dashed line.

    `top_label` names the value at the top of the scale; the scale starts at zero.
    """
    left, right, top, bottom = 8.0, 352.0, 18.0, 118.0
    scale = top_of(points, objective)
    step = (right - left) / max(len(points) - 1, 1)

    def y(value: float) -> float:
        return bottom - (bottom - top) * min(max(value, 0), scale) / scale

    parts = [
        Markup('<line class="axis" x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}"/>').format(
            left, bottom, right, bottom
        ),
        Markup('<text class="tick" x="{:.0f}" y="11">{}</text>').format(left, top_label),
    ]
    if objective is not None:
        above = objective > scale  # far away: named, but no line where it does not belong
        label = f"{obj_label} ↑" if above else obj_label
        parts.append(Markup('<text class="tick end" x="{:.0f}" y="11">{}</text>').format(right, label))
        if not above:
            parts.append(
                Markup('<line class="goal" x1="{0:.0f}" y1="{1:.1f}" x2="{2:.0f}" y2="{1:.1f}"/>').format(
                    left, y(objective), right
                )
            )
    spots = [(left + step * i, p) for i, p in enumerate(points)]
    line = " ".join(f"{x:.1f},{y(p.value):.1f}" for x, p in spots if p.value is not None)
    parts.append(Markup('<polyline class="line" points="{}"/>').format(line))
    for x, point in spots:
        at = bottom if point.value is None else y(point.value)
        parts.append(_mark(x, at, point))
    if spots:
        parts.append(Markup('<text class="tick" x="{:.0f}" y="134">{}</text>').format(left, points[0].label))
    if len(spots) > 1:
        parts.append(
            Markup('<text class="tick end" x="{:.0f}" y="134">{}</text>').format(right, points[-1].label)
        )
    return Markup('<svg class="trend" viewBox="0 0 360 140" role="img" aria-label="{}">{}</svg>').format(
        title, Markup("").join(parts)
    )


def top_of(points: Sequence[Point], objective: float | None) -> float:
    """Where a trend's scale ends: above every value; the objective is on it unless it is far away."""
    most = max((p.value for p in points if p.value is not None), default=0.0)
    if objective is not None and objective <= 4 * most:
        most = max(most, objective)
    return most * 1.1 or 1.0


def icon(verdict: str) -> Markup:
    """The verdict as a sign whose shape alone tells it, in the text's colour."""
    shapes = {
        "pass": '<circle cx="24" cy="24" r="21"/><path d="M14 25l7 7 13-15"/>',
        "fail": '<path d="M15.5 3h17L45 15.5v17L32.5 45h-17L3 32.5v-17z"/>'
        '<path d="M17 17l14 14M31 17L17 31"/>',
        "inconclusive": '<path d="M24 3l21 21-21 21L3 24z"/>'
        '<path d="M19 19.5a5 5 0 1 1 7 4.8c-1.5.8-2 1.700-2 3.7M24 33v.5"/>',
    }
    return Markup('<svg class="icon" viewBox="0 0 48 48" aria-hidden="true">{}</svg>').format(
        Markup(shapes.get(verdict, shapes["inconclusive"]))  # noqa: S704 - from the table above
    )


def _mark(x: float, y: float, point: Point) -> Markup:
    shapes = {
        "pass": f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
        "fail": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8",
        "inconclusive": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
        "aborted": f"M{x:.1f} {y - 6:.1f}v12",
        "missed": f"M{x - 4:.1f} {y:.1f}h8",
    }
    verdict = point.verdict if point.verdict in shapes else "inconclusive"
    return Markup('<path class="mark {}" d="{}"><title>{}</title></path>').format(
        verdict, shapes[verdict], escape(point.label)
    )
