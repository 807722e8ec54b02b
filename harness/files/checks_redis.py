"""redis.conf: accepted by Redis."""

from __future__ import annotations

from collections.abc import Iterator

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from .redis_conf import directives, static_trouble
from .restore import RestoredFiles

_REMEDY = "correct the line on the source system and take the backup again: Redis does not start with it"


@check("files.redis-conf", proves="usability", severity="critical", remedy=_REMEDY)
def redis_conf(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Redis starts with redis.conf."""
    if not subject.redis_starts:
        raise NotRun("the backup holds no redis.conf")
    seen = False
    for start in subject.redis_starts:
        troubles = {
            d.line: (d.name, why) for d in directives(subject.text(start.name)) if (why := static_trouble(d))
        }
        if start.refused and start.line not in troubles:
            troubles[start.line or 0] = (start.directive, start.complaint)
        for line, (name, why) in sorted(troubles.items()):
            seen = True
            by = start.server if start.refused and start.line == line else "Redis"
            yield self.finding(
                f"{start.name}:{line}" if line else start.name,
                f"{by} does not start with line {line} (directive {name}): {why}"
                if line
                else f"Redis does not start with it: {why}",
            )
        if start.newer and not troubles:
            seen = True
            yield self.finding(
                f"{start.name}:{start.line}",
                f"the directive {start.directive} is newer than the server here ({start.server})",
                severity=Severity.MEDIUM,
                remedy="verify on a machine with the Redis version that runs in production",
            )
    lacking = [start.untested for start in subject.redis_starts if not (start.server or start.refused)]
    if lacking and not seen:
        raise NotRun(lacking[0])
