import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import BadSignatureError, MalformedPayloadError
from integrations.linear.verify import verify

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECRET = "lin_wh_1"


def body(sent: object = None, **more: object) -> bytes:
    at = NOW.timestamp() * 1000 if sent is None else sent
    return json.dumps({"webhookTimestamp": at, **more}).encode()


def headers(raw: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"linear-signature": hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()}


@pytest.mark.parametrize("seconds", [0, 60, -60])
def test_what_was_sent_within_a_minute_is_accepted(seconds: int) -> None:
    raw = body((NOW.timestamp() + seconds) * 1000, text="grüße")
    payload = verify(SECRET, headers=headers(raw), body=raw, now=NOW)
    assert payload["text"] == "grüße"


@pytest.mark.parametrize(
    "sent",
    [(NOW.timestamp() + 60.001) * 1000, (NOW.timestamp() - 60.001) * 1000, 0, -1, 10**400,
     float("nan"), float("inf"), True, "1", [], {}],
)  # fmt: skip
def test_an_old_future_or_missing_time_is_refused(sent: object) -> None:
    raw = body(sent)
    with pytest.raises(BadSignatureError):
        verify(SECRET, headers=headers(raw), body=raw, now=NOW)


def test_another_body_secret_or_no_signature_is_refused() -> None:
    raw = body()
    for given_headers, given_body in (
        (headers(raw), raw + b" "),
        (headers(raw, "other"), raw),
        ({}, raw),
        ({"linear-signature": "é"}, raw),
        ({"linear-signature": headers(raw)["linear-signature"].upper()}, raw),
    ):
        with pytest.raises(BadSignatureError):
            verify(SECRET, headers=given_headers, body=given_body, now=NOW)


def test_the_unsigned_header_does_not_count() -> None:
    raw = body(0)
    fresh = headers(raw) | {"linear-timestamp": str(int(NOW.timestamp() * 1000))}
    with pytest.raises(BadSignatureError):
        verify(SECRET, headers=fresh, body=raw, now=NOW)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"1", b"[" * 100_000])
def test_what_is_signed_and_no_object_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedPayloadError):
        verify(SECRET, headers=headers(raw), body=raw, now=NOW)


@given(raw=st.binary(max_size=100), signature=st.text(max_size=80))
def test_nothing_unsigned_is_parsed(raw: bytes, signature: str) -> None:
    with pytest.raises(BadSignatureError):
        verify(SECRET, headers={"linear-signature": signature}, body=raw, now=NOW)
