"""Linear's token endpoint, and the words of an installation by link."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    RejectedError,
    UnavailableError,
)
from integrations.linear.config import SCOPES, LinearConfig
from integrations.linear.refusals import SERVICE, by_status
from integrations.wording import one_line

SCOPE: Final = ",".join(SCOPES)
TICKET_LASTS: Final = timedelta(hours=1)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_REFUSALS: Final = frozenset({"invalid_grant", "invalid_client", "unauthorized_client"})


class Granted(BaseModel):
    """Tokens, as the endpoint gives them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    access_token: str = Field(min_length=1, repr=False)
    refresh_token: str = Field(default="", repr=False)
    expires_in: float = Field(gt=0)


class TokenEndpoint:
    """Grants become tokens. Each call is one attempt; Linear bears a repeated refresh for half an hour."""

    def __init__(self, config: LinearConfig) -> None:
        self._config = config

    async def exchange(self, *, code: str, verifier: str, redirect_uri: str) -> Granted:
        return await self._post(
            grant_type="authorization_code",
            code=code,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
        )

    async def refresh(self, refresh_token: str) -> Granted:
        return await self._post(grant_type="refresh_token", refresh_token=refresh_token)

    async def by_credentials(self) -> Granted:
        return await self._post(grant_type="client_credentials", scope=SCOPE)

    async def _post(self, **form: str) -> Granted:
        form |= {
            "client_id": self._config.client_id,
            "client_secret": self._config.client_secret.get_secret_value(),
        }
        url = f"{self._config.api_url}/oauth/token"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as client,
                client.post(url, data=form, allow_redirects=False) as response,
            ):
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(SERVICE, type(error).__name__) from error
        if response.status != HTTPStatus.OK:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise _refusal(response.status, headers, body)
        try:
            return Granted.model_validate_json(body)
        except ValidationError as error:
            raise MalformedPayloadError(
                "Linear's token endpoint answered without a token"
            ) from error


class _Problem(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    error: str = ""
    error_description: str = ""


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> IntegrationError:
    try:
        problem = _Problem.model_validate_json(body)
    except ValidationError:
        problem = _Problem()
    said = one_line(f"{problem.error} {problem.error_description}")[:300]
    if problem.error in _REFUSALS:
        return AuthError(SERVICE, said)
    if problem.error == "invalid_scope":
        return RejectedError(SERVICE, said)
    return by_status(status, headers, said)


def challenge(verifier: str) -> str:
    """PKCE's S256."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def consent_url(config: LinearConfig, *, state: str, verifier: str, redirect_uri: str) -> str:
    """Where an admin agrees to the app in their workspace."""
    asked = {
        "client_id": config.client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": SCOPE,
        "actor": "app",
        "state": state,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        "prompt": "consent",
    }
    return f"{config.authorize_url}?{urlencode(asked)}"


# --- the ticket: who may begin an installation


def install_ticket(config: LinearConfig, *, now: datetime) -> str:
    """Shows that whoever opens the link got it from somebody who has the settings.

    Without one, anybody who reaches us could install the app in a workspace of theirs, with a team
    named like one that a policy trusts.
    """
    until = int((now + TICKET_LASTS).timestamp())
    return f"{until}.{_seal(config, until)}"


def is_ticket(config: LinearConfig, ticket: str, *, now: datetime) -> bool:
    found = re.fullmatch(r"([0-9]{1,12})\.([0-9a-f]{64})", ticket)
    if found is None or int(found[1]) < now.timestamp():
        return False
    return hmac.compare_digest(found[2], _seal(config, int(found[1])))


def _seal(config: LinearConfig, until: int) -> str:
    key = config.client_secret.get_secret_value().encode()
    return hmac.new(
        key, f"errand linear install until {until}".encode(), hashlib.sha256
    ).hexdigest()
