"""Slack's Web API with our errors: one attempt per call, since only the caller knows what is safe twice."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from integrations.channel import Standing
from integrations.errors import RejectedError
from integrations.paging import onward
from integrations.slack.config import SlackConfig
from integrations.slack.failures import slack_errors
from integrations.slack.identity import Identity
from integrations.slack.messages import Message, message_of

Block = dict[str, object]

PAGE = 200
PEOPLE = 5000
"""So many are remembered."""
REMEMBERED_SECONDS = 900.0
"""Who becomes a guest is one a quarter of an hour later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    name: str
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list, as Slack gave it."""

    found: Sequence[Mapping[str, object]]
    next: str
    """Where the next part begins; empty after the last."""


class SlackClient:
    """The handful of methods we use. Made without a running loop; the connection opens with the first call."""

    def __init__(
        self,
        config: SlackConfig,
        *,
        token: SecretStr | None = None,
        timeout_seconds: float = 10,
    ) -> None:
        self._config = config
        self._token = token or config.bot_token
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None
        self._identity: Identity | None = None
        self._asking = asyncio.Lock()
        self._people: dict[str, tuple[Person, float]] = {}

    @property
    def config(self) -> SlackConfig:
        return self._config

    def renew(self, token: SecretStr) -> None:
        """Go on with another token of the same workspace."""
        self._token = token

    async def identity(self) -> Identity:
        """Who we are: asked once, then known."""
        if self._identity is None:
            async with self._asking:
                if self._identity is None:
                    self._identity = await self.who()
        return self._identity

    async def who(self) -> Identity:
        """Who we are, asked anew."""
        with slack_errors():
            answer = await self.web().auth_test()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        scopes = headers.get("x-oauth-scopes")
        return Identity(
            team_id=str(answer.get("team_id") or ""),
            user_id=str(answer.get("user_id") or ""),
            bot_id=str(answer.get("bot_id") or ""),
            url=str(answer.get("url") or ""),
            scopes=None if scopes is None else frozenset(s.strip() for s in scopes.split(",")),
        )

    async def person(self, user: str) -> Person:
        """Who somebody is; asked again after a while."""
        now = asyncio.get_running_loop().time()
        known = self._people.get(user)
        if known is None or now - known[1] > REMEMBERED_SECONDS:
            answer = await self._call("users.info", {"user": user})
            found: Mapping[str, object] = answer.get("user") or {}
            if len(self._people) >= PEOPLE:
                self._people.clear()
            known = (_person(found, user, (await self.identity()).team_id), now)
            self._people[user] = known
        return known[0]

    async def name_of(self, user: str) -> str:
        """The display name, or the real one."""
        return (await self.person(user)).name

    async def post(
        self, *, channel: str, thread: str, text: str, blocks: Sequence[Block], key: str
    ) -> str:
        """Post into a thread, or, where that is empty, into the channel itself."""
        with slack_errors():
            answer = await self.web().chat_postMessage(
                channel=channel,
                thread_ts=thread or None,
                text=text,
                blocks=blocks,
                metadata={"event_type": "errand_reply", "event_payload": {"key": key}},
                unfurl_links=False,
                unfurl_media=False,
            )
        return str(answer["ts"])

    async def update(self, *, channel: str, ts: str, text: str, blocks: Sequence[Block]) -> None:
        with slack_errors():
            await self.web().chat_update(channel=channel, ts=ts, text=text, blocks=blocks)

    async def upload(self, *, channel: str, thread: str, name: str, text: str) -> None:
        """Put a text beside a message, as a file."""
        with slack_errors():
            await self.web().files_upload_v2(
                channel=channel, thread_ts=thread, filename=name, title=name, content=text
            )

    async def open_view(self, trigger: str, view: Block) -> None:
        """Open a modal: within three seconds of the click that gave the trigger."""
        await self._send("views.open", {"trigger_id": trigger, "view": view})

    async def publish_home(self, user: str, view: Block) -> None:
        await self._send("views.publish", {"user_id": user, "view": view})

    async def suggest(self, channel: str, prompts: Sequence[Mapping[str, str]]) -> None:
        """Offer things to say in the agent's pane. With a thread this would fail without a word."""
        await self._send(
            "assistant.threads.setSuggestedPrompts",
            {"channel_id": channel, "prompts": list(prompts)},
        )

    async def set_session(self, *, channel: str, thread: str, status: str, title: str) -> None:
        """What the agent's pane shows of a conversation: processing, active, suspended, closed.

        The title counts only the first time, and may be empty.
        """
        body: dict[str, object] = {"channel_id": channel, "thread_ts": thread, "status": status}
        await self._send("agents.sessions.setStatus", {**body, "title": title} if title else body)

    async def direct(self, user: str) -> str:
        """The channel of direct messages with somebody."""
        answer = await self._call("conversations.open", {"users": user})
        channel: Mapping[str, object] = answer.get("channel") or {}
        return str(channel.get("id") or "")

    async def react(self, *, channel: str, ts: str, name: str, present: bool) -> None:
        """Add or remove a reaction; already so is fine."""
        done, method = (
            ("already_reacted", "reactions.add") if present else ("no_reaction", "reactions.remove")
        )
        try:
            await self._call(method, {"channel": channel, "timestamp": ts, "name": name})
        except RejectedError as error:
            if error.code != done:
                raise

    async def replies(
        self, *, channel: str, thread: str, oldest: float = 0
    ) -> AsyncIterator[Message]:
        """The thread's messages from `oldest` on, page by page."""
        async for message in self._messages(
            "conversations.replies", {"channel": channel, "ts": thread}, oldest=oldest
        ):
            yield message

    async def history(self, *, channel: str, oldest: float) -> AsyncIterator[Message]:
        """The channel's own messages from `oldest` on, newest first, page by page."""
        async for message in self._messages(
            "conversations.history", {"channel": channel}, oldest=oldest
        ):
            yield message

    async def page(self, method: str, asked: Mapping[str, str]) -> Page:
        """A part of a list: of places, or of messages as they are."""
        answer = await self._call(method, {**asked, "limit": PAGE})
        found = answer.get("messages") or answer.get("channels") or ()
        after = (answer.get("response_metadata") or {}).get("next_cursor")
        return Page(found=found, next=str(after or ""))

    async def message(self, *, channel: str, ts: str) -> Message | None:
        """One message, wherever in a thread it stands."""
        asked = {"channel": channel, "ts": ts, "latest": ts, "inclusive": 1, "limit": 1}
        answer = await self._call("conversations.replies", asked)
        found = [message_of(raw) for raw in answer.get("messages") or ()]
        return next((message for message in found if message.ts == ts), None)

    async def _messages(
        self, method: str, of: Mapping[str, object], *, oldest: float
    ) -> AsyncIterator[Message]:
        """To the end: what is looked for may be on the last page. Whoever asks limits the time."""
        cursor: str | None = None
        seen = set[str]()
        while True:
            answer = await self._call(
                method,
                {
                    **of,
                    "oldest": f"{oldest:.6f}",
                    "inclusive": 1,
                    "include_all_metadata": 1,  # a form: Python's True would be sent as "True"
                    "limit": PAGE,
                    "cursor": cursor,
                },
            )
            for raw in answer.get("messages") or ():
                yield message_of(raw)
            following = (answer.get("response_metadata") or {}).get("next_cursor")
            if not following:
                return
            cursor = onward(str(following), seen, service="slack")

    async def _call(self, method: str, data: dict[str, object]) -> AsyncSlackResponse:
        """A method by its name, with a form as its body: the SDK's own wrappers put some into the query."""
        with slack_errors():
            return await self.web().api_call(method, data=data)

    async def _send(self, method: str, body: dict[str, object]) -> AsyncSlackResponse:
        """As `_call`, for what has structure."""
        with slack_errors():
            return await self.web().api_call(method, json=body)

    async def try_app_token(self) -> None:
        """Ask for a Socket Mode address, and leave it unused."""
        if self._config.app_token is not None:
            with slack_errors():
                await self.web().apps_connections_open(
                    app_token=self._config.app_token.get_secret_value()
                )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self._session

    @property
    def authorization(self) -> str:
        return f"Bearer {self._token.get_secret_value() if self._token else ''}"

    def web(self) -> AsyncWebClient:
        """The SDK's client, without retries: they would post twice after a lost answer."""
        return AsyncWebClient(
            token=self._token.get_secret_value() if self._token else "",
            base_url=self._config.api_url,
            session=self.session,
            retry_handlers=[],
        )


def _person(found: Mapping[str, object], user: str, team: str) -> Person:
    profile = found.get("profile")
    shown = profile.get("display_name") if isinstance(profile, Mapping) else None
    standing: Standing = ""
    if found.get("is_bot"):
        standing = "bot"
    elif found.get("is_stranger") or found.get("team_id") not in {None, "", team}:
        standing = "outsider"
    elif found.get("is_restricted") or found.get("is_ultra_restricted"):
        standing = "guest"
    name = str(shown or found.get("real_name") or found.get("name") or user)
    return Person(name=name, standing=standing)
