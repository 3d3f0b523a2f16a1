"""The workspaces that we serve, each with a client of its own."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from slack_sdk.web.async_client import AsyncWebClient

from integrations.errors import IntegrationError, RejectedError
from integrations.notes import Notes
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.failures import slack_errors

log = structlog.get_logger()

NOT_INSTALLED: Final = "not_installed"
PREFIX = "slack:workspace:"
EARLY_SECONDS = 7200.0
"""Slack's tokens that rotate are good for twelve hours; so long before that a new one is fetched."""
CLAIM_SECONDS = 60.0
"""A refresh token works once: whoever wants to use it says so first, for so long."""


class Workspaces(Protocol):
    """Errors: `IntegrationError`'s leaves, and the store's."""

    async def client(self, team: str) -> SlackClient:
        """`RejectedError` for a workspace that we are not installed in."""

    async def clients(self) -> Sequence[SlackClient]: ...

    async def forget(self, team: str) -> None:
        """The app was removed from it."""

    async def close(self) -> None: ...


class OneWorkspace:
    """That of the token in the settings, whatever a delivery calls it."""

    def __init__(self, client: SlackClient) -> None:
        self._client = client

    async def client(self, team: str) -> SlackClient:
        return self._client

    async def clients(self) -> Sequence[SlackClient]:
        return [self._client]

    async def forget(self, team: str) -> None:
        """Its token is in the settings: `check` says that it is no longer accepted."""

    async def close(self) -> None:
        await self._client.close()


class Installation(BaseModel):
    """What Slack gave when the app was installed, or its token renewed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    team: str
    name: str = ""
    token: str
    refresh: str = ""
    """Empty where tokens do not rotate."""
    expires_at: float = 0
    """Unix time; 0 for never."""
    claimed_until: float = 0
    """Somebody is using the refresh token."""


class ManyWorkspaces:
    """Those in which the app was installed over our pages; their tokens are kept as notes."""

    def __init__(
        self, config: SlackConfig, notes: Notes, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self._notes = notes
        self._clock = clock
        self._known: dict[str, tuple[Installation, SlackClient]] = {}
        self._opening = asyncio.Lock()

    async def client(self, team: str) -> SlackClient:
        if not team:
            return await self._only_one()
        known = self._known.get(team)
        if known is not None and not self._expires(known[0]):
            return known[1]
        async with self._opening:
            return await self._opened(team)

    async def clients(self) -> Sequence[SlackClient]:
        names = await self._notes.names(PREFIX)
        return [await self.client(name.removeprefix(PREFIX)) for name in names]

    async def install(self, installation: Installation) -> None:
        """Anew, or over what was there."""
        await self._notes.put(f"{PREFIX}{installation.team}", installation.model_dump_json())
        await self._drop(installation.team)
        log.info("slack_workspace_installed", team=installation.team)

    async def forget(self, team: str) -> None:
        stored = await self._notes.get(f"{PREFIX}{team}")
        if stored is not None and await self._notes.swap(f"{PREFIX}{team}", stored, None):
            log.info("slack_workspace_forgotten", team=team)
        await self._drop(team)

    async def close(self) -> None:
        for team in list(self._known):
            await self._drop(team)

    async def redeem(self, **grant: str) -> Installation:
        """Exchange a code or a refresh token."""
        secret = self.config.client_secret
        async with self._nobody() as web:
            with slack_errors():
                answer = await web.api_call(
                    "oauth.v2.access",
                    data={
                        "client_id": self.config.client_id,
                        "client_secret": secret.get_secret_value() if secret else "",
                        **grant,
                    },
                )
        team = answer.get("team") or {}
        expires_in = answer.get("expires_in") or 0
        return Installation(
            team=str(team.get("id") or ""),
            name=str(team.get("name") or ""),
            token=str(answer["access_token"]),
            refresh=str(answer.get("refresh_token") or ""),
            expires_at=self._clock() + float(expires_in) if expires_in else 0,
        )

    def _nobody(self) -> "_Anonymous":
        return _Anonymous(self.config)

    async def _only_one(self) -> SlackClient:
        clients = await self.clients()
        if len(clients) != 1:
            raise RejectedError("slack", "which of the workspaces is meant?")
        return clients[0]

    def _expires(self, installation: Installation) -> bool:
        at = installation.expires_at
        return bool(at) and self._clock() > at - EARLY_SECONDS

    async def _opened(self, team: str) -> SlackClient:
        name = f"{PREFIX}{team}"
        stored = await self._notes.get(name)
        if stored is None:
            await self._drop(team)
            raise RejectedError("slack", NOT_INSTALLED)
        try:
            installation = Installation.model_validate_json(stored)
        except ValidationError:
            raise RejectedError("slack", NOT_INSTALLED) from None
        if self._expires(installation) and installation.claimed_until < self._clock():
            installation = await self._renewed(name, stored, installation)
        return self._remember(installation)

    async def _renewed(self, name: str, stored: str, old: Installation) -> Installation:
        """A token is good for two hours yet: where that fails, or another does it, the old one will do."""
        until = self._clock() + CLAIM_SECONDS
        claimed = old.model_copy(update={"claimed_until": until}).model_dump_json()
        if not await self._notes.swap(name, stored, claimed):
            return old
        try:
            fresh = await self.redeem(grant_type="refresh_token", refresh_token=old.refresh)
        except IntegrationError as error:
            log.warning("slack_token_not_renewed", team=old.team, error=str(error))
            return old
        fresh = fresh.model_copy(update={"team": old.team, "name": fresh.name or old.name})
        await self._notes.swap(name, claimed, fresh.model_dump_json())
        log.info("slack_token_renewed", team=old.team)
        return fresh

    def _remember(self, installation: Installation) -> SlackClient:
        known = self._known.get(installation.team)
        token = SecretStr(installation.token)
        client = known[1] if known else SlackClient(self.config, token=token)
        client.renew(token)
        self._known[installation.team] = (installation, client)
        return client

    async def _drop(self, team: str) -> None:
        known = self._known.pop(team, None)
        if known is not None:
            await known[1].close()


class _Anonymous:
    """A client without a token, for the exchange of codes."""

    def __init__(self, config: SlackConfig) -> None:
        self._client = SlackClient(config)

    async def __aenter__(self) -> AsyncWebClient:
        return self._client.web()

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
