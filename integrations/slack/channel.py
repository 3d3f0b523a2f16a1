"""Slack as a place where people talk."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from fastapi import APIRouter
from slack_bolt.async_app import AsyncApp

from integrations.channel import Conversation, Final, Inbound, Mark, Opening, Receive, Reply
from integrations.errors import IntegrationError, RateLimitedError, RejectedError
from integrations.front import Front
from integrations.notes import Notes
from integrations.pictures import Pictures
from integrations.slack.arrivals import Arrivals
from integrations.slack.catchup import CatchUp
from integrations.slack.checkup import problems_of
from integrations.slack.client import SlackClient
from integrations.slack.completing import CLOSED, completed, post_once
from integrations.slack.config import SlackConfig
from integrations.slack.ingress import bolt_app
from integrations.slack.oauth import install_router
from integrations.slack.pace import Pace
from integrations.slack.render import Rendered, is_richer, render, render_opening
from integrations.slack.sessions import Sessions
from integrations.slack.socket import listen
from integrations.slack.web import slack_router
from integrations.slack.workspaces import ManyWorkspaces, Workspaces

log = structlog.get_logger()

REACTIONS = {
    Mark.SEEN: "eyes",
    Mark.DONE: "checkered_flag",
    Mark.FAILED: "x",
    Mark.STOPPED: "octagonal_sign",
}
CLOCK_SKEW = timedelta(minutes=5)
"""Slack stamps messages by its own clock; keys are unique, so looking further back is harmless."""

MOVED = "(I write to you here, since I can no longer write where you asked.)"
ATTACHMENT = "output.txt"
BLOCK_CODES = frozenset({"invalid_blocks", "invalid_blocks_format"})


class SlackChannel:
    """Every workspace that the app is installed in."""

    name = "slack"
    silence_seconds = 60.0

    def __init__(
        self,
        config: SlackConfig,
        *,
        front: Front,
        workspaces: Workspaces,
        notes: Notes | None = None,
        pictures: Pictures | None = None,
        tickets: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tickets`: somewhere else a ticket can be made of what is asked for here.

        Without `notes` it can't be known what was missed, and nothing is looked for; without `pictures` they are
        named only.
        """
        self._config = config
        self._front = front
        self._workspaces = workspaces
        self._notes = notes
        self._pictures = pictures
        self._tickets = tickets
        self._caller = SlackClient(config)
        """Asks for Socket Mode's addresses, for which the app itself has a token."""
        self._has_socket = False
        self._is_refused = False
        self._sessions = Sessions()
        self._pace = Pace(clock=clock)
        self._plain: set[str] = set()
        """The workspaces that have only the older blocks."""

    @property
    def connected(self) -> bool | None:
        if self._is_refused:
            return False
        return None if self._config.app_token is None else self._has_socket

    @property
    def edit_seconds(self) -> float:
        return self._pace.seconds

    async def complete(self, inbound: Inbound) -> Inbound:
        client = await self._workspaces.client(inbound.conversation.team)
        return await completed(client, inbound, self._pictures)

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        if where.thread:
            raise RejectedError(self.name, f"{where.thread} is nothing to begin a conversation on")
        client = await self._workspaces.client(where.team)
        bot = await client.identity()
        message = render_opening(opening)
        ts = await post_once(client, bot, place=where.place, message=message, key=key)
        return where.model_copy(update={"team": bot.team_id, "thread": ts})

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        client = await self._workspaces.client(conversation.team)

        async def send(message: Rendered) -> str:
            return await client.post(
                channel=conversation.place,
                thread=conversation.thread,
                text=message.text,
                blocks=message.blocks,
                key=key,
            )

        try:
            posted = await self._best(conversation, reply, send)
        except RejectedError as error:
            if error.code not in CLOSED or not isinstance(reply, Final):
                raise
            return await self._directly(client, reply, key=key)
        await self._beside(client, conversation, reply)
        return posted

    async def _directly(self, client: SlackClient, final: Final, *, key: str) -> str:
        """The last word, to who asked: the place where they did is closed to us."""
        user = final.person.removeprefix(f"{self.name}:")
        if user == final.person:
            raise RejectedError(self.name, "nobody to tell directly")
        message = render(final.model_copy(update={"text": f"{final.text}\n\n{MOVED}"}))
        place = await client.direct(user)
        bot = await client.identity()
        return await post_once(client, bot, place=place, message=message, key=key)

    async def _beside(self, client: SlackClient, conversation: Conversation, reply: Reply) -> None:
        """What goes with a message that is posted: nothing of it may make it be posted again."""
        await self._sessions.show(client, conversation, reply)
        attachment = render(reply).attachment
        if attachment:
            try:
                await client.upload(
                    channel=conversation.place,
                    thread=conversation.thread,
                    name=ATTACHMENT,
                    text=attachment,
                )
            except IntegrationError as error:
                log.warning("slack_file_not_sent", error=str(error))

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        client = await self._workspaces.client(conversation.team)

        async def send(message: Rendered) -> str:
            await client.update(
                channel=conversation.place,
                ts=message_id,
                text=message.text,
                blocks=message.blocks,
            )
            return message_id

        try:
            await self._best(conversation, reply, send)
        except RateLimitedError as error:
            self._pace.too_fast(error.retry_after)
            raise
        await self._sessions.show(client, conversation, reply)

    async def _best(
        self, conversation: Conversation, reply: Reply, send: Callable[[Rendered], Awaitable[str]]
    ) -> str:
        """With the newer blocks; where Slack refuses them nothing was said, so that the older ones may follow."""
        if conversation.team not in self._plain and is_richer(reply):
            try:
                return await send(render(reply, rich=True, tickets=self._tickets))
            except RejectedError as error:
                if error.code not in BLOCK_CODES:
                    raise
                self._plain.add(conversation.team)
                log.info("slack_blocks_plain", team=conversation.team, error=str(error))
        return await send(render(reply, tickets=self._tickets))

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        client = await self._workspaces.client(conversation.team)
        await client.react(
            channel=conversation.place, ts=message_id, name=REACTIONS[mark], present=present
        )

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        client = await self._workspaces.client(conversation.team)
        bot = await client.identity()
        replies = client.replies(
            channel=conversation.place,
            thread=conversation.thread,
            oldest=(since - CLOCK_SKEW).timestamp(),
        )
        try:
            async for message in replies:
                if message.key == key and bot.wrote(user=message.user, bot_id=message.bot_id):
                    return message.ts
        except RejectedError as error:
            if error.code not in CLOSED:
                raise
        return None

    async def name_of(self, person: str) -> str:
        """Ids are one workspace's own: the first that knows somebody tells."""
        user = person.removeprefix(f"{self.name}:")
        unknown: RejectedError | None = None
        for client in await self._workspaces.clients():
            try:
                return await client.name_of(user)
            except RejectedError as error:
                unknown = error
        raise unknown or RejectedError(self.name, "not installed in any workspace")

    def routes(self, receive: Receive) -> APIRouter | None:
        router = APIRouter()
        secret = self._config.signing_secret
        if secret is not None:
            app = self._app(receive)
            events = slack_router(app, self._workspaces, signing_secret=secret.get_secret_value())
            router.include_router(events)
        if isinstance(self._workspaces, ManyWorkspaces):
            router.include_router(install_router(self._workspaces))
        return router if router.routes else None

    async def listen(self, receive: Receive) -> None:
        token, every = self._config.app_token, self._config.catch_up_seconds
        async with asyncio.TaskGroup() as group:
            if token is not None:
                app, web = self._app(receive), self._caller.web()
                secret = token.get_secret_value()
                group.create_task(listen(app, app_token=secret, web=web, told=self._note_socket))
            if self._notes is not None and every:
                group.create_task(self.catching_up(receive, self._notes).run(every))

    def _note_socket(self, connected: bool) -> None:  # noqa: FBT001  as it is told
        self._has_socket = connected

    def _note_answer(self, taken: bool) -> None:  # noqa: FBT001  as it is told
        self._is_refused = not taken

    def catching_up(self, receive: Receive, notes: Notes) -> CatchUp:
        pace = self._config.history_calls_a_minute
        return CatchUp(
            arrivals=self._arrivals(receive),
            notes=notes,
            calls_a_minute=pace,
            told=self._note_answer,
        )

    async def check(self) -> list[str]:
        return await problems_of(self._workspaces, self._caller)

    async def close(self) -> None:
        await self._workspaces.close()
        await self._caller.close()

    def _app(self, receive: Receive) -> AsyncApp:
        return bolt_app(self._arrivals(receive), api_url=self._config.api_url)

    def _arrivals(self, receive: Receive) -> Arrivals:
        return Arrivals(
            config=self._config, workspaces=self._workspaces, front=self._front, receive=receive
        )
