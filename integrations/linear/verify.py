"""The signature of a delivery, checked on its raw bytes before anything parses them: pure."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime

from integrations.errors import BadSignatureError, MalformedPayloadError

SKEW_SECONDS = 60
Json = Mapping[str, object]


def verify(secret: str, *, headers: Mapping[str, str], body: bytes, now: datetime) -> Json:
    """The payload, if Linear signed it and sent it within the last minute.

    The header Linear-Timestamp is not signed: only the body's own time counts.

    Raises:
        BadSignatureError: it is not from Linear, or too old.
        MalformedPayloadError: it is signed, and is no JSON object.
    """
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("linear-signature", "")
    if not hmac.compare_digest(expected.encode(), given.encode(errors="replace")):
        raise BadSignatureError("signature does not match")
    payload = _parsed(body)
    sent = payload.get("webhookTimestamp")
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        raise BadSignatureError("no time in it")
    at = round(now.timestamp() * 1000)
    if not at - SKEW_SECONDS * 1000 <= sent <= at + SKEW_SECONDS * 1000:
        raise BadSignatureError(f"sent more than {SKEW_SECONDS} seconds ago, or in the future")
    return payload


def _parsed(body: bytes) -> Json:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedPayloadError("Linear's delivery is not JSON") from error
    if not isinstance(payload, dict):
        raise MalformedPayloadError("Linear's delivery is no JSON object")
    return payload
