"""The signature of a delivery, checked on its raw bytes before anything parses them."""

from collections.abc import Mapping

from slack_sdk.signature import SignatureVerifier

from integrations.errors import BadSignatureError

TIMESTAMP_DIGITS = 12


def verify(verifier: SignatureVerifier, *, headers: Mapping[str, str], body: bytes) -> None:
    """Accept only what Slack signed within the last five minutes.

    The SDK's verifier raises on what cannot be a timestamp, a signature or text; here that is
    a bad signature like any other.

    Raises:
        BadSignatureError: it is not from Slack, or too old.
    """
    timestamp = headers.get("x-slack-request-timestamp", "")
    signature = headers.get("x-slack-signature", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= TIMESTAMP_DIGITS):
        raise BadSignatureError("no valid timestamp")
    if not signature.isascii():
        raise BadSignatureError("no valid signature")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadSignatureError("not UTF-8") from error
    if not verifier.is_valid(text, timestamp, signature):
        raise BadSignatureError("signature does not match, or is older than five minutes")
