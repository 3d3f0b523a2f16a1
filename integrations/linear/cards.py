"""The card of a run: a session's plan, and one activity for each thing that is done."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from integrations.channel import Card, Conversation
from integrations.errors import RejectedError
from integrations.linear import render
from integrations.linear.answers import Done, SessionLinks
from integrations.linear.api import Api
from integrations.linear.documents import (
    CREATE_ACTIVITY,
    SESSION_LINKS,
    SHOW_PROGRESS,
    UPDATE_SESSION,
)
from integrations.linear.events import ISSUE_PREFIX
from integrations.linear.ids import made_from
from integrations.linear.markup import is_web
from integrations.linear.plan import Plan, plan_of
from integrations.linear.sessions import LABEL, Sessions

Json = Mapping[str, Any]
REMEMBERED: Final = 1000
STOPPING: Final = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What of a card stands in Linear, as far as this process knows."""

    plan: Plan | None = None
    doing: str | None = None
    window: int = 0


class Cards:
    """Edits are one request each, or none: Linear counts them, and people read each one.

    What was shown is kept in memory only. After a restart the same is said again, under the
    same ids, and Linear knows it.
    """

    def __init__(self, api: Api, sessions: Sessions, *, silence_seconds: float) -> None:
        self._api = api
        self._sessions = sessions
        self._silence_seconds = silence_seconds
        self._shown: OrderedDict[str, _Shown] = OrderedDict()

    async def post(self, conversation: Conversation, card: Card, *, message_id: str) -> None:
        """Where it leads to, the plan, and what is begun."""
        session = await self._sessions.of(conversation)
        plan = plan_of(card.steps)
        changes = await self._page(conversation, session, card) | ({"plan": plan} if plan else {})
        activity = {
            "id": message_id,
            "agentSessionId": session,
            "content": render.started(card),
        }
        await self._send(conversation.team, session, changes, activity)
        self._remember(message_id, _Shown(plan=plan))

    async def _page(self, conversation: Conversation, session: str, card: Card) -> dict[str, Any]:
        """The task's page among the session's addresses, which must be there once."""
        if not is_web(card.url):
            return {}
        answer = await self._api.ask(conversation.team, SESSION_LINKS, SessionLinks, id=session)
        there = {link.url for link in answer.agent_session.external_links}
        changes: dict[str, Any] = {}
        if card.url not in there:
            changes["addedExternalUrls"] = [{"label": LABEL, "url": card.url}]
        placeholder = self._sessions.placeholder(conversation)
        if conversation.thread.startswith(ISSUE_PREFIX) and placeholder in there:
            changes["removedExternalUrls"] = [placeholder]
        return changes

    async def edit(self, conversation: Conversation, card: Card, *, message_id: str) -> None:
        """What is new of it. Once it is being stopped nothing is done any more, and then the plan only."""
        if card.live and card.state == STOPPING:
            return
        session = await self._sessions.of(conversation)
        shown = self._shown.get(message_id, _Shown())
        plan = plan_of(card.steps)
        changes = {"plan": plan} if plan != (shown.plan or []) else {}
        window = int((card.elapsed_seconds or 0) // self._silence_seconds)
        activity = self._activity(card, shown, window, message_id=message_id)
        after = replace(shown, plan=plan)
        if activity is not None:
            activity |= {"agentSessionId": session}
            after = replace(after, doing=card.doing, window=window)
        await self._send(conversation.team, session, changes, activity)
        self._remember(message_id, after)

    def _activity(
        self, card: Card, shown: _Shown, window: int, *, message_id: str
    ) -> dict[str, Any] | None:
        """What is done now if that is new, or a sign of life once per window of silence."""
        if not card.live or card.waits:
            return (
                None  # a session in which something is said after a question does not wait any more
            )
        if card.doing and card.doing != shown.doing:
            key = made_from(message_id, "doing", card.doing, str(window))
            return {"id": key, "content": render.doing(card)}
        if window not in {0, shown.window}:
            key = made_from(message_id, "still", card.state, str(window))
            return {"id": key, "content": render.still(card), "ephemeral": True}
        return None

    async def _send(self, team: str, session: str, changes: Json, activity: Json | None) -> None:
        """Both in one request: the session first, so that a refused activity does not hide it."""
        if not changes and activity is None:
            return
        if activity is None:
            await self._api.ask(team, UPDATE_SESSION, Done, id=session, session=changes)
            return
        try:
            if changes:
                await self._api.ask(
                    team, SHOW_PROGRESS, Done, id=session, session=changes, activity=activity
                )
            else:
                await self._api.ask(team, CREATE_ACTIVITY, Done, activity=activity)
        except RejectedError as error:
            await self._api.pass_if_there(team, activity, error)

    def _remember(self, message_id: str, shown: _Shown) -> None:
        self._shown[message_id] = shown
        self._shown.move_to_end(message_id)
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
