"""Slack's payloads as it documents them, and requests signed as it signs them."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from integrations.slack.identity import Identity

SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BOT = Identity(team_id="T0ACME", user_id="U0ERRAND", bot_id="B0ERRAND", url="https://acme.example/")
_SAMPLES = Path(__file__).parents[1] / "samples" / "slack"


# Any: a payload is raw JSON until the parser under test has read it.
def payload(name: str, **event: object) -> dict[str, Any]:
    """A sample, with fields of its event replaced, or removed where None."""
    raw: dict[str, Any] = json.loads((_SAMPLES / f"{name}.json").read_text())
    if event:
        merged = {**raw["event"], **event}
        raw["event"] = {key: value for key, value in merged.items() if value is not None}
    return raw


def form(payload: dict[str, Any]) -> bytes:
    """The body of an interaction, as Slack sends it over HTTP."""
    return urlencode({"payload": json.dumps(payload)}).encode()


def command(text: str, **more: str) -> dict[str, str]:
    """A slash command's fields."""
    return {
        "token": "x",
        "team_id": "T0ACME",
        "team_domain": "acme",
        "channel_id": "C0WEB",
        "channel_name": "web",
        "user_id": "U0DANA",
        "user_name": "dana",
        "command": "/errand",
        "text": text,
        "api_app_id": "A0ERRAND",
        "is_enterprise_install": "false",
        "response_url": "https://hooks.slack.com/commands/T0ACME/1/x",
        "trigger_id": "13345224609.738474920.8088930838d88f008e0",
        **more,
    }


def signed(
    body: bytes, *, at: float, secret: str = SIGNING_SECRET, kind: str = "application/json"
) -> dict[str, str]:
    """The headers of a delivery."""
    stamp = str(int(at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": kind,
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest}",
    }
