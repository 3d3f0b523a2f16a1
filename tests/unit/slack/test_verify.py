from itertools import product

import pytest
from slack_sdk.signature import Clock, SignatureVerifier
from typing_extensions import override

from integrations.errors import BadSignatureError
from integrations.slack.verify import verify
from tests.support.slack_payloads import SIGNING_SECRET, signed

NOW = 1732104000.0
BODY = '{"type":"event_callback","text":"grüße"}'.encode()


class Fixed(Clock):
    @override
    def now(self) -> float:
        return NOW


VERIFIER = SignatureVerifier(SIGNING_SECRET, clock=Fixed())


@pytest.mark.parametrize("age", [0, 299, -299])
def test_a_fresh_signature_is_accepted(age: float) -> None:
    verify(VERIFIER, headers=signed(BODY, at=NOW - age), body=BODY)


@pytest.mark.parametrize("age", [302, -302])
def test_an_old_or_future_signature_is_refused(age: float) -> None:
    with pytest.raises(BadSignatureError):
        verify(VERIFIER, headers=signed(BODY, at=NOW - age), body=BODY)


def test_another_body_or_secret_is_refused() -> None:
    for body, secret in ((BODY + b" ", SIGNING_SECRET), (BODY, "other")):
        with pytest.raises(BadSignatureError):
            verify(VERIFIER, headers=signed(BODY, at=NOW, secret=secret), body=body)


ODD = ["", "now", "-1", "1e9", "١٧٣٢١٠٤٠٠٠", "9" * 400, "1732104000.5"]


@pytest.mark.parametrize(("header", "value"), list(product(["x-slack-request-timestamp"], ODD)))
def test_what_is_no_timestamp_is_a_bad_signature(header: str, value: str) -> None:
    with pytest.raises(BadSignatureError):
        verify(VERIFIER, headers=signed(BODY, at=NOW) | {header: value}, body=BODY)


@pytest.mark.parametrize("value", ["", "v0=", "v0=ünicode"])
def test_what_is_no_signature_is_a_bad_signature(value: str) -> None:
    headers = signed(BODY, at=NOW) | {"x-slack-signature": value}
    with pytest.raises(BadSignatureError):
        verify(VERIFIER, headers=headers, body=BODY)


def test_bytes_that_are_no_text_are_a_bad_signature() -> None:
    body = b"\xff\xfe"
    with pytest.raises(BadSignatureError):
        verify(VERIFIER, headers=signed(body, at=NOW), body=body)


def test_missing_headers_are_a_bad_signature() -> None:
    with pytest.raises(BadSignatureError):
        verify(VERIFIER, headers={}, body=BODY)
