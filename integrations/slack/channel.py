"""Slack as a place where people talk."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from fastapi import APIRouter
from slack_bolt.async_app import AsyncApp

from integrations.channel import Conversation, Inbound, Mark, Opening, Receive, Reply
from integrations.errors import IntegrationError, RejectedError
from integrations.front import Front
from integrations.slack.arrivals import Arrivals
from integrations.slack.checkup import problems_of
from integrations.slack.client import SlackClient
from integrations.slack.completing import completed, post_once
from integrations.slack.config import SlackConfig
from integrations.slack.ingress import bolt_app
from integrations.slack.render import Rendered, is_richer, render, render_opening
from integrations.slack.sessions import Sessions
from integrations.slack.socket import listen
from integrations.slack.web import slack_router
from integrations.slack.workspaces import OneWorkspace, Workspaces

log = structlog.get_logger()

REACTIONS = {
    Mark.SEEN: "eyes",
    Mark.DONE: "checkered_flag",
    Mark.FAILED: "x",
    Mark.STOPPED: "octagonal_sign",
}
CLOCK_SKEW = timedelta(minutes=5)
"""Slack stamps messages by its own clock; keys are unique, so looking further back is harmless."""

ATTACHMENT = "output.txt"
BLOCK_CODES = frozenset({"invalid_blocks", "invalid_blocks_format"})


class SlackChannel:
    """Every workspace that the app is installed in."""

    name = "slack"
    edit_seconds = 3.0
    silence_seconds = 60.0

    def __init__(
        self, config: SlackConfig, *, front: Front, workspaces: Workspaces | None = None
    ) -> None:
        self._config = config
        self._front = front
        self._workspaces = workspaces or OneWorkspace(SlackClient(config))
        self._caller = SlackClient(config)
        """Asks for Socket Mode's addresses, for which the app itself has a token."""
        self._sessions = Sessions()
        self._plain: set[str] = set()
        """The workspaces that have only the older blocks."""

    async def complete(self, inbound: Inbound) -> Inbound:
        client = await self._workspaces.client(inbound.conversation.team)
        return await completed(client, inbound)

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

        posted = await self._best(conversation, reply, send)
        await self._beside(client, conversation, reply)
        return posted

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

        await self._best(conversation, reply, send)
        await self._sessions.show(client, conversation, reply)

    async def _best(
        self, conversation: Conversation, reply: Reply, send: Callable[[Rendered], Awaitable[str]]
    ) -> str:
        """With the newer blocks; where Slack refuses them nothing was said, so that the older ones may follow."""
        if conversation.team not in self._plain and is_richer(reply):
            try:
                return await send(render(reply, rich=True))
            except RejectedError as error:
                if error.code not in BLOCK_CODES:
                    raise
                self._plain.add(conversation.team)
                log.info("slack_blocks_plain", team=conversation.team, error=str(error))
        return await send(render(reply))

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
            if error.code != "thread_not_found":
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
        secret = self._config.signing_secret
        if secret is None:
            return None
        return slack_router(
            self._app(receive), self._workspaces, signing_secret=secret.get_secret_value()
        )

    async def listen(self, receive: Receive) -> None:
        token = self._config.app_token
        if token is not None:
            await listen(
                self._app(receive),
                app_token=token.get_secret_value(),
                web=self._caller.web(),
            )

    async def check(self) -> list[str]:
        return await problems_of(self._workspaces, self._caller)

    async def close(self) -> None:
        await self._workspaces.close()
        await self._caller.close()

    def _app(self, receive: Receive) -> AsyncApp:
        arrivals = Arrivals(
            config=self._config, workspaces=self._workspaces, front=self._front, receive=receive
        )
        return bolt_app(arrivals, api_url=self._config.api_url)
