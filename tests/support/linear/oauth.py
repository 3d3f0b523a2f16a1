"""Linear's OAuth: what is granted, and how long it holds."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

TOKEN: Final = "lin_oauth_stand-in"
"""An access token that is good from the start."""
API_KEY: Final = "lin_api_dana"
"""Dana's own key: sent without `Bearer`."""
CLIENT_ID, CLIENT_SECRET = "errand-client-id", "errand-client-secret"
SCOPES: Final = "read,write,app:assignable,app:mentionable"

_DAY: Final = timedelta(seconds=86_399)
_MONTH: Final = timedelta(seconds=2_591_999)
_GRACE: Final = timedelta(minutes=30)
_CODE: Final = timedelta(minutes=10)


@dataclass(slots=True, kw_only=True)
class Grant:
    """An access token, and what renews it."""

    access: str
    scope: str
    expires_at: datetime
    refresh: str | None = None
    client_credentials: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    redirect_uri: str
    scope: str
    challenge: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OAuthError(Exception):
    """`status`, and the body's `error` and `error_description`."""

    status: int
    error: str
    description: str

    def body(self) -> dict[str, str]:
        return {"error": self.error, "error_description": self.description}


@dataclass(slots=True)
class OAuth:
    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    denies: bool = False
    """The admin says no."""
    ahead: timedelta = timedelta()
    """How far its clock is ahead of ours: tests move it to let tokens expire."""
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    renewed: dict[str, tuple[Grant, datetime]] = field(default_factory=dict)
    """What each used refresh token gave, and when."""

    def __post_init__(self) -> None:
        start = self._now() + _MONTH
        self.grants.append(Grant(access=TOKEN, scope=SCOPES, expires_at=start))

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    # --- what tests do

    def expire(self) -> None:
        """Every access token that is out there ends now; refresh tokens stay good."""
        for grant in self.grants:
            grant.expires_at = self._now()

    def forget_all(self) -> None:
        self.grants, self.renewed, self.codes = [], {}, {}

    # --- what the server asks

    def is_valid(self, access: str) -> bool:
        return any(g.access == access and g.expires_at > self._now() for g in self.grants)

    def authorize(self, asked: Mapping[str, str]) -> str:
        """The address to send the browser back to."""
        if asked.get("client_id") != self.client_id or not asked.get("redirect_uri"):
            raise OAuthError(400, "invalid_request", "Invalid client_id or redirect_uri")
        answer = {"state": asked["state"]} if "state" in asked else {}
        if (problem := _problem(asked)) or self.denies:
            answer["error"] = problem or "access_denied"
        else:
            answer["code"] = secrets.token_hex(16)
            self.codes[answer["code"]] = Code(
                redirect_uri=asked["redirect_uri"], scope=asked["scope"],
                challenge=asked.get("code_challenge"), expires_at=self._now() + _CODE,
            )  # fmt: skip
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        """The body of /oauth/token."""
        self._check_client(form, authorization)
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._exchanged(form)
            case "refresh_token":
                grant = self._refreshed(form.get("refresh_token", ""))
            case "client_credentials":
                grant = self._credited(form.get("scope", "read"))
            case other:
                raise OAuthError(400, "unsupported_grant_type", f"Unknown grant_type {other}")
        lasts = grant.expires_at - self._now()
        answer = {
            "access_token": grant.access,
            "token_type": "Bearer",
            "expires_in": max(0, round(lasts.total_seconds())),
            "scope": " ".join(sorted(grant.scope.split(","))),
        }
        return answer | ({"refresh_token": grant.refresh} if grant.refresh else {})

    def revoke(self, token: str) -> None:
        """An access or refresh token, and the other of the pair with it."""
        kept = [g for g in self.grants if token not in {g.access, g.refresh}]
        if len(kept) == len(self.grants):
            raise OAuthError(400, "invalid_request", "The token is not there, or revoked already")
        self.grants = kept

    def _check_client(self, form: Mapping[str, str], authorization: str | None) -> None:
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if authorization is not None:
            name, _, secret = (
                base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            )
            given = (name, secret)
        public = form.get("grant_type") == "authorization_code" and "code_verifier" in form
        if given[0] != self.client_id or (
            given[1] != self.client_secret and not (public and not given[1])
        ):
            raise OAuthError(401, "invalid_client", "Invalid client credentials")

    def _exchanged(self, form: Mapping[str, str]) -> Grant:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or code.expires_at <= self._now():
            raise OAuthError(400, "invalid_grant", "The code is unknown, used or expired")
        if code.redirect_uri != form.get("redirect_uri"):
            raise OAuthError(400, "invalid_grant", "The redirect_uri differs from the first")
        if code.challenge and code.challenge != challenge(form.get("code_verifier", "")):
            raise OAuthError(400, "invalid_grant", "The code_verifier does not fit")
        return self._granted(code.scope)

    def _refreshed(self, refresh: str) -> Grant:
        """A new pair. The old refresh token gives the same pair again for half an hour, and then nothing."""
        if refresh in self.renewed:
            grant, at = self.renewed[refresh]
            if grant in self.grants and at + _GRACE > self._now():
                return grant
        used = next((g for g in self.grants if g.refresh and g.refresh == refresh), None)
        if used is None:
            raise OAuthError(400, "invalid_grant", "The refresh token is unknown, used or revoked")
        self.grants.remove(used)
        grant = self._granted(used.scope)
        self.renewed[refresh] = (grant, self._now())
        return grant

    def _granted(self, scope: str) -> Grant:
        grant = Grant(
            access=f"lin_oauth_{secrets.token_hex(16)}", scope=scope,
            expires_at=self._now() + _DAY, refresh=f"lin_refresh_{secrets.token_hex(16)}",
        )  # fmt: skip
        self.grants.append(grant)
        return grant

    def _credited(self, scope: str) -> Grant:
        """Thirty days and no refresh token; other scopes end all tokens of this kind."""
        self.grants = [g for g in self.grants if not g.client_credentials or g.scope == scope]
        grant = Grant(
            access=f"lin_oauth_{secrets.token_hex(16)}", scope=scope,
            expires_at=self._now() + _MONTH, client_credentials=True,
        )  # fmt: skip
        self.grants.append(grant)
        return grant


def challenge(verifier: str) -> str:
    """PKCE's S256."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _problem(asked: Mapping[str, str]) -> str | None:
    if asked.get("response_type") != "code":
        return "unsupported_response_type"
    scopes = set(asked.get("scope", "").split(","))
    if not scopes - {""} or (asked.get("actor") == "app" and "admin" in scopes):
        return "invalid_scope"
    if "code_challenge" in asked and asked.get("code_challenge_method") != "S256":
        return "invalid_request"
    return None
