"""Slack as a place where people talk."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from slack_bolt.async_app import AsyncApp

from integrations.channel import Conversation, Inbound, Mark, Opening, Receive, Reply
from integrations.errors import IntegrationError, RejectedError
from integrations.slack.client import Message, SlackClient
from integrations.slack.config import SCOPES, SlackConfig
from integrations.slack.identity import Identity
from integrations.slack.ingress import bolt_app
from integrations.slack.render import render, render_opening
from integrations.slack.socket import listen
from integrations.slack.web import slack_router

REACTIONS = {
    Mark.SEEN: "eyes",
    Mark.DONE: "checkered_flag",
    Mark.FAILED: "x",
    Mark.STOPPED: "octagonal_sign",
}
CLOCK_SKEW = timedelta(minutes=5)
"""Slack stamps messages by its own clock; keys are unique, so looking further back is harmless."""
OPENED_WITHIN = timedelta(days=1)
"""How far back an opening that may have been posted is looked for."""

_BOT_REFUSED = (
    "Slack does not accept the bot token ({code}): reinstall the app and set"
    " ERRAND_SLACK__BOT_TOKEN to its Bot User OAuth Token."
)
_NO_BOT = "ERRAND_SLACK__BOT_TOKEN is no bot's token: take the Bot User OAuth Token (xoxb-…)."
_SCOPES_MISSING = (
    "The Slack app lacks {scopes}: paste manifest.yml into its App Manifest page and reinstall it."
)
_APP_REFUSED = (
    "Slack does not accept the app-level token ({code}): turn Socket Mode on and set"
    " ERRAND_SLACK__APP_TOKEN to a token with connections:write."
)


class SlackChannel:
    """One workspace, one bot token."""

    name = "slack"
    edit_seconds = 3.0
    silence_seconds = 60.0

    def __init__(self, config: SlackConfig, *, client: SlackClient | None = None) -> None:
        self._config = config
        self._client = client or SlackClient(config)

    async def complete(self, inbound: Inbound) -> Inbound:
        return inbound

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        if where.thread:
            raise RejectedError(self.name, f"{where.thread} is nothing to begin a conversation on")
        bot = await self._client.identity()
        ts = await self._opened(where.place, bot, key)
        if ts is None:
            message = render_opening(opening)
            ts = await self._client.post(
                channel=where.place, thread="", text=message.text, blocks=message.blocks, key=key
            )
        return where.model_copy(update={"team": bot.team_id, "thread": ts})

    async def _opened(self, place: str, bot: Identity, key: str) -> str | None:
        oldest = (datetime.now(UTC) - OPENED_WITHIN).timestamp()
        async for message in self._client.history(channel=place, oldest=oldest):
            if message.key == key and _wrote(bot, message):
                return message.ts
        return None

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        message = render(reply)
        return await self._client.post(
            channel=conversation.place,
            thread=conversation.thread,
            text=message.text,
            blocks=message.blocks,
            key=key,
        )

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        message = render(reply)
        await self._client.update(
            channel=conversation.place, ts=message_id, text=message.text, blocks=message.blocks
        )

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        await self._client.react(
            channel=conversation.place, ts=message_id, name=REACTIONS[mark], present=present
        )

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        bot = await self._client.identity()
        replies = self._client.replies(
            channel=conversation.place,
            thread=conversation.thread,
            oldest=(since - CLOCK_SKEW).timestamp(),
        )
        try:
            async for message in replies:
                if message.key == key and _wrote(bot, message):
                    return message.ts
        except RejectedError as error:
            if error.code != "thread_not_found":
                raise
        return None

    async def name_of(self, person: str) -> str:
        return await self._client.name_of(person.removeprefix(f"{self.name}:"))

    def routes(self, receive: Receive) -> APIRouter | None:
        secret = self._config.signing_secret
        if secret is None:
            return None
        return slack_router(
            self._app(receive), self._client, signing_secret=secret.get_secret_value()
        )

    async def listen(self, receive: Receive) -> None:
        token = self._config.app_token
        if token is not None:
            await listen(
                self._app(receive),
                app_token=token.get_secret_value(),
                web=self._client.web(),
            )

    async def check(self) -> list[str]:
        try:
            problems = _shortcomings(await self._client.who())
        except RejectedError as error:
            return [_BOT_REFUSED.format(code=error.code)]
        except IntegrationError as error:
            return [f"{error}: check the network and ERRAND_SLACK__API_URL."]
        try:
            await self._client.try_app_token()
        except RejectedError as error:
            problems.append(_APP_REFUSED.format(code=error.code))
        except IntegrationError as error:
            problems.append(f"{error}: Socket Mode could not be tried.")
        return problems

    async def close(self) -> None:
        await self._client.close()

    def _app(self, receive: Receive) -> AsyncApp:
        return bolt_app(self._client, receive, api_url=self._config.api_url)


def _shortcomings(bot: Identity) -> list[str]:
    problems = [] if bot.bot_id else [_NO_BOT]
    missing = sorted(SCOPES.keys() - bot.scopes) if bot.scopes is not None else []
    return [*problems, _SCOPES_MISSING.format(scopes=", ".join(missing))] if missing else problems


def _wrote(bot: Identity, message: Message) -> bool:
    return message.user == bot.user_id or (bool(bot.bot_id) and message.bot_id == bot.bot_id)
