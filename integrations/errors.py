"""What can go wrong with an outside service, by who can act on it.

IntegrationError
├── BadSignatureError      drop the delivery and count it
├── MalformedPayloadError  a payload of a shape we do not know: alarm
├── RejectedError          the service refused for good: tell the operator
│   └── AuthError          our credential is no longer accepted
├── RateLimitedError       wait, then try again
└── UnavailableError       outcome unknown or service down: look up, then try again
"""

from typing import Literal

RateScope = Literal["workspace", "method", "place"]
"""What a service counts together: all calls of a workspace, those of one method, or those of one method to one place."""


class IntegrationError(Exception):
    """Root of this room's errors."""


class BadSignatureError(IntegrationError):
    """The delivery's signature does not match its bytes."""


class MalformedPayloadError(IntegrationError):
    """The payload lacks something its type promises."""


class RejectedError(IntegrationError):
    """The service refused, and would refuse again."""

    def __init__(self, service: str, code: str) -> None:
        super().__init__(f"{service} refused: {code}")
        self.service = service
        self.code = code


class AuthError(RejectedError):
    """The credential is missing, wrong or revoked."""


class RateLimitedError(IntegrationError):
    """Too many calls of those that `scope` names; `retry_after` is in seconds."""

    def __init__(self, service: str, retry_after: float, *, scope: RateScope = "workspace") -> None:
        super().__init__(f"{service} asks to wait {retry_after:g} s")
        self.service = service
        self.retry_after = retry_after
        self.scope = scope


class UnavailableError(IntegrationError):
    """No answer, or a 5xx: the call may or may not have taken effect."""

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"{service} is not available: {reason}")
        self.service = service
        self.reason = reason
