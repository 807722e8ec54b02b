"""Tell a webhook: JSON that Slack and those compatible with it understand."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import ConfigError, ToolError
from ..redact import Secret, mask
from .monitor import Report

TIMEOUT_S: Final = 10.0
_LISTED: Final = 10


def message(report: Report) -> dict[str, Any]:
    """What is sent: `text` in Slack's own markup; never a value, URL or secret."""
    e = report.escalation
    lines = [f"*Provado: backups {report.verdict.value}* (escalation level {e.level})"]
    if e.who:
        lines.append(f"For {e.who}{f' - {e.how}' if e.how else ''}")
    if e.section:
        lines.append(f"Runbook section: {e.section}")
    for f in report.findings[:_LISTED]:
        lines.append(f"• {f.severity.value}: {f.object} {f.message}")
    if len(report.findings) > _LISTED:
        lines.append(f"… and {len(report.findings) - _LISTED} more")
    text = mask("\n".join(lines))
    return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def send(url: Secret, payload: dict[str, Any]) -> None:
    """POST the payload once. Raises ToolError when it was not taken. The URL is a secret and is not named."""
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError("the webhook must be an http(s) URL", where="policy.webhook")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, json.dumps(payload), {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(
            f"the webhook could not be reached ({type(error).__name__})", where="policy.webhook"
        ) from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise ToolError(f"the webhook answered {status}", where="policy.webhook")
