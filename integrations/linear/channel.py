"""Linear as a place where people talk, and as a tracker."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import assert_never

from fastapi import APIRouter

from integrations.channel import (
    Card,
    Conversation,
    Final,
    Inbound,
    Mark,
    Notice,
    Opening,
    Question,
    Receive,
    Reply,
    Suggestion,
)
from integrations.errors import RejectedError
from integrations.linear import render
from integrations.linear.answers import LastWord, LastWords
from integrations.linear.api import Api
from integrations.linear.beginning import show_life, take_over
from integrations.linear.cards import Cards
from integrations.linear.checkup import checkup, keep_up
from integrations.linear.completing import Completing
from integrations.linear.config import LinearConfig
from integrations.linear.deliveries import Deliveries
from integrations.linear.documents import LAST_WORD
from integrations.linear.ending import Ending
from integrations.linear.events import NAME
from integrations.linear.graphql import GraphQL
from integrations.linear.ids import is_id, made_from
from integrations.linear.opening import Openings
from integrations.linear.pages import Installer
from integrations.linear.people import People
from integrations.linear.polling import Polling
from integrations.linear.sessions import Sessions, must_be_spoken_in
from integrations.linear.speaking import speak
from integrations.linear.tickets import Tickets
from integrations.linear.web import webhook_router
from integrations.linear.workspaces import Workspaces, utc_now
from integrations.notes import Notes

KEEP_UP_SECONDS = 3600.0


class LinearChannel:
    """One app, in one or several workspaces. Everything it writes is safe twice."""

    name = NAME
    edit_seconds = 25.0
    """A run of ten minutes costs forty requests at most."""
    silence_seconds = 1200.0
    """Linear calls a session stale after thirty minutes."""
    connected: bool | None = None
    """As far as it is asked."""

    def __init__(
        self,
        config: LinearConfig,
        *,
        notes: Notes,
        public_url: str,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._notes = notes
        self._public_url = public_url
        self._now = now
        self._graphql = GraphQL(config.api_url)
        self._workspaces = Workspaces(config, notes=notes, graphql=self._graphql, now=now)
        self._api = Api(graphql=self._graphql, workspaces=self._workspaces)
        self._sessions = Sessions(self._api, notes=notes, public_url=public_url)
        self._completing = Completing(self._api, self._sessions, public_url=public_url)
        self._cards = Cards(self._api, self._sessions, silence_seconds=self.silence_seconds)
        self._ending = Ending(self._api, repository_host=config.repository_host)
        self._openings = Openings(self._api, self._sessions)
        self._people = People(self._api)
        self._teams_changed = asyncio.Event()
        self._tickets = Tickets(self._api, self._sessions, repository_host=config.repository_host)

    # --- what arrives

    async def complete(self, inbound: Inbound) -> Inbound:
        return await self._completing.complete(inbound)

    def routes(self, receive: Receive) -> APIRouter | None:
        router = APIRouter()
        secret = self._config.webhook_secret
        if secret is not None:
            deliveries = Deliveries(
                self._workspaces, self._sessions, receive, teams_changed=self._teams_changed.set
            )
            router.include_router(
                webhook_router(deliveries, secret=secret.get_secret_value(), now=self._now)
            )
        if self._config.mode == "oauth":
            installer = Installer(
                self._config,
                workspaces=self._workspaces,
                notes=self._notes,
                public_url=self._public_url,
                now=self._now,
            )
            router.include_router(installer.routes())
        return router if router.routes else None

    async def listen(self, receive: Receive) -> None:
        every = self._config.poll_seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(
                keep_up(self._api, every_seconds=KEEP_UP_SECONDS, changed=self._teams_changed)
            )
            if every is not None:
                group.create_task(self.polling(receive).run(every))

    def polling(self, receive: Receive) -> Polling:
        return Polling(
            api=self._api,
            sessions=self._sessions,
            notes=self._notes,
            receive=receive,
            now=self._now,
            withdrawals=self._config.webhook_secret is None,
            told=self._note_answer,
        )

    def _note_answer(self, taken: bool) -> None:  # noqa: FBT001  as it is told
        self.connected = taken

    # --- what is said

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        return await self._openings.open(where, opening, key=key)

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        """Each reply has an id made from its key: posted twice, it is there once."""
        must_be_spoken_in(conversation)
        message_id = made_from(conversation.thread, key)
        if isinstance(reply, Card):
            await self._cards.post(conversation, reply, message_id=message_id)
            return message_id
        session = await self._sessions.of(conversation)
        match reply:
            case Notice():
                running = await self._is_running(conversation.team, session)
                more: dict[str, object] = {"content": render.notice(reply, running=running)}
            case Question():
                more = {"content": render.question(reply)}
                if reply.options:
                    more |= {
                        "signal": "select",
                        "signalMetadata": {"options": render.choices(reply)},
                    }
            case Final():
                await self._ending.say(conversation, session, reply, message_id=message_id)
                return message_id
            case _:
                assert_never(reply)
        activity = {"id": message_id, "agentSessionId": session, **more}
        await speak(self._api, conversation.team, activity, reply)
        return message_id

    async def _is_running(self, team: str, session: str) -> bool:
        """Whether a run has begun and not ended: what we said last of the kinds that tell."""
        answer = await self._api.ask(team, LAST_WORD, LastWord, id=session)
        return last_kind(answer.agent_session) == "AgentActivityActionContent"

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        """Only cards change; Linear keeps what was said."""
        must_be_spoken_in(conversation)
        if not is_id(message_id):
            raise RejectedError(NAME, f"{message_id} is no message of ours")
        if isinstance(reply, Card):
            await self._cards.edit(conversation, reply, message_id=message_id)

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        """SEEN is a first thought, and moves the ticket. How it ended, the session itself shows."""
        if mark is not Mark.SEEN or not present:
            return
        must_be_spoken_in(conversation)
        session = await self._sessions.of(conversation)
        await show_life(self._api, conversation, message_id, session)
        await take_over(self._api, conversation.team, session)

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        message_id = made_from(conversation.thread, key)
        session = await self._sessions.known(conversation)
        if not session or not await self._api.has(conversation.team, session, message_id):
            return None
        return message_id

    async def name_of(self, person: str) -> str:
        return await self._people.name_of(person)

    # --- the tracker

    async def suggest(self, inbound: Inbound, repos: Sequence[str]) -> Suggestion | None:
        return await self._tickets.suggest(inbound, repos)

    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        return await self._tickets.blockers(conversation)

    def item_in(self, text: str) -> str | None:
        return self._tickets.item_in(text)

    # --- the rest

    async def check(self) -> list[str]:
        return await checkup(self._api)

    async def close(self) -> None:
        await self._graphql.close()


def last_kind(words: LastWords) -> str:
    """Of the newest; which end of a connection that is, is Linear's affair."""
    said = [*words.newest.nodes, *words.oldest.nodes]
    newest = max(said, key=lambda one: one.created_at, default=None)
    return newest.content.typename if newest else ""
