"""The workspaces that the app is installed in, and their tokens: kept in notes, shared by all replicas."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from integrations.errors import AuthError, MalformedPayloadError, RejectedError
from integrations.linear.answers import Who
from integrations.linear.config import LinearConfig
from integrations.linear.documents import WHO
from integrations.linear.events import NAME, Installation
from integrations.linear.graphql import GraphQL
from integrations.linear.oauth import Granted, TokenEndpoint
from integrations.notes import Notes

log = structlog.get_logger()

PREFIX: Final = "linear:workspace:"
RENEW_BEFORE: Final = timedelta(minutes=10)
NOT_INSTALLED: Final = "not_installed"


class Workspace(BaseModel):
    """What is kept of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    organization_id: str
    name: str
    url_key: str
    app_user_id: str
    app_name: str
    team_keys: tuple[str, ...] = ()
    mode: Literal["oauth", "client_credentials"]
    client_id: str
    access_token: str = Field(default="", repr=False)
    refresh_token: str = Field(default="", repr=False)
    expires_at: datetime
    installed_at: datetime | None = None
    revoked: bool = False
    """An admin has taken the app out: the tokens are gone, the name is kept to say so."""

    @property
    def installation(self) -> Installation:
        return Installation(
            organization_id=self.organization_id,
            app_user_id=self.app_user_id,
            app_name=self.app_name,
        )


def utc_now() -> datetime:
    return datetime.now(UTC)


class Workspaces:
    """What is known is kept in memory, and read again where Linear does not take it."""

    def __init__(
        self,
        config: LinearConfig,
        *,
        notes: Notes,
        graphql: GraphQL,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._notes = notes
        self._graphql = graphql
        self._now = now
        self._endpoint = TokenEndpoint(config)
        self._known: dict[str, Workspace] = {}
        self._renewing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def team_keys(self) -> frozenset[str]:
        """Of the workspaces met so far."""
        return frozenset(key for one in self._known.values() for key in one.team_keys)

    async def all(self) -> list[Workspace]:
        """Those that notes know, the taken away among them; with client credentials ours, or an error."""
        if self._config.mode == "oauth":
            return await self._kept()
        async with self._renewing[""]:
            # Whoever waited here finds what the first has installed.
            alive = [one for one in await self._kept() if not one.revoked]
            return alive or [await self.install(await self._endpoint.by_credentials())]

    async def _kept(self) -> list[Workspace]:
        found = [await self._load(name) for name in await self._notes.names(PREFIX)]
        return [one for one in found if one is not None]

    async def installed(self) -> list[Workspace]:
        return [one for one in await self.all() if not one.revoked]

    async def find(self, organization_id: str) -> Workspace | None:
        """One that is installed."""
        found = self._known.get(organization_id) or await self._load(PREFIX + organization_id)
        if found is not None and not found.revoked:
            return found
        if self._config.mode == "oauth":
            return None
        ours = {one.organization_id: one for one in await self.all()}
        return ours.get(organization_id)

    async def get(self, organization_id: str) -> Workspace:
        """Raises AuthError where it is not installed."""
        if (found := await self.find(organization_id)) is None:
            raise AuthError(NAME, NOT_INSTALLED)
        return found

    async def token(self, organization_id: str) -> str:
        """One that holds for a while yet."""
        found = await self.get(organization_id)
        if found.expires_at - RENEW_BEFORE > self._now():
            return found.access_token
        return await self.renewed(organization_id, used=found.access_token)

    async def renewed(self, organization_id: str, *, used: str) -> str:
        """Another token than `used`, which Linear does not take any more.

        Whoever comes second, here or in another replica, gets what the first got.
        """
        async with self._renewing[organization_id]:
            name = PREFIX + organization_id
            raw = await self._notes.get(name)
            found = self._read(raw)
            if raw is None or found is None or found.revoked:
                self._known.pop(organization_id, None)
                raise AuthError(NAME, NOT_INSTALLED)
            if found.access_token == used:
                found = await self._renew(name, raw, found)
            self._known[organization_id] = found
            return found.access_token

    async def _renew(self, name: str, raw: str, found: Workspace) -> Workspace:
        tokens = self._tokens(await self._granted(found))
        kept, used = found, found.access_token
        while kept.access_token == used:
            fresh = kept.model_copy(update=tokens)
            if await self._notes.swap(name, raw, fresh.model_dump_json()):
                log.info("linear_token_renewed", workspace=found.url_key)
                return fresh
            # Somebody changed what is kept meanwhile: the tokens too, or something else.
            raw = await self._notes.get(name) or ""
            kept = self._read(raw) or found.model_copy(update={"access_token": ""})
        if not kept.access_token:
            raise AuthError(NAME, NOT_INSTALLED)
        return kept

    async def _granted(self, found: Workspace) -> Granted:
        if found.mode == "client_credentials":
            return await self._endpoint.by_credentials()
        return await self._endpoint.refresh(found.refresh_token)

    def _tokens(self, granted: Granted) -> dict[str, object]:
        return {
            "access_token": granted.access_token,
            "refresh_token": granted.refresh_token,
            "expires_at": self._now() + timedelta(seconds=granted.expires_in),
        }

    async def exchange(self, *, code: str, verifier: str, redirect_uri: str) -> Workspace:
        """What an admin agreed to becomes an installation."""
        granted = await self._endpoint.exchange(
            code=code, verifier=verifier, redirect_uri=redirect_uri
        )
        return await self.install(granted)

    async def install(self, granted: Granted) -> Workspace:
        """Ask whose these tokens are, and keep them."""
        who = await self._who(granted.access_token)
        if not who.viewer.app:
            raise RejectedError(NAME, "these tokens are a person's, and not the app's")
        made = Workspace.model_validate(
            {
                **_known_by(who),
                "mode": self._config.mode,
                "client_id": self._config.client_id,
                "installed_at": self._now(),
                **self._tokens(granted),
            }
        )
        await self._notes.put(PREFIX + made.organization_id, made.model_dump_json())
        self._known[made.organization_id] = made
        log.info("linear_installed", workspace=made.url_key, teams=list(made.team_keys))
        return made

    async def learn(self, who: Who) -> None:
        """What the app is called there and which teams it may see changes now and then."""
        name = PREFIX + who.organization.id
        found = self._read(raw := await self._notes.get(name))
        fresh = found and found.model_copy(update=_known_by(who))
        if fresh is None or found is None or found.revoked or fresh == found:
            return
        if await self._notes.swap(name, raw, fresh.model_dump_json()):
            self._known[fresh.organization_id] = fresh

    async def _who(self, token: str) -> Who:
        data = await self._graphql.execute(WHO, {}, token=token)
        try:
            return Who.model_validate(data)
        except ValidationError as error:
            raise MalformedPayloadError("Linear does not say whose token it is") from error

    async def drop(self, organization_id: str) -> None:
        """Forget the tokens; remember that they were taken away."""
        name = PREFIX + organization_id
        while (found := self._read(raw := await self._notes.get(name))) and not found.revoked:
            gone = found.model_copy(
                update={"access_token": "", "refresh_token": "", "revoked": True}
            )
            if await self._notes.swap(name, raw, gone.model_dump_json()):
                log.warning("linear_revoked", workspace=found.url_key)
        self._known.pop(organization_id, None)

    async def _load(self, name: str) -> Workspace | None:
        found = self._read(await self._notes.get(name))
        if found is not None:
            self._known[found.organization_id] = found
        return found

    def _read(self, raw: str | None) -> Workspace | None:
        """None where it is of another app of ours, or of another way to install."""
        try:
            found = Workspace.model_validate_json(raw or "")
        except ValidationError:
            return None
        same = (self._config.client_id, self._config.mode) == (found.client_id, found.mode)
        return found if same else None


def _known_by(who: Who) -> dict[str, object]:
    organization = who.organization
    return {
        "organization_id": organization.id,
        "name": organization.name,
        "url_key": organization.url_key,
        "app_user_id": who.viewer.id,
        "app_name": who.viewer.display_name,
        "team_keys": tuple(sorted(team.key for team in who.teams.nodes)),
    }
