"""Slack's payloads as it documents them, and requests signed as it signs them."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

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


def signed(body: bytes, *, at: float, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """The headers of a delivery."""
    stamp = str(int(at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest}",
    }
