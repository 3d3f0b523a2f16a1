"""The last word of a run, and what goes before it: links, attachment, the ticket's state."""

from typing import Any

import structlog
from pydantic import BaseModel

from integrations.channel import Conversation, Final
from integrations.errors import AuthError, RejectedError
from integrations.linear import render
from integrations.linear.answers import Done, IssueStates, SessionMoves, SessionStates
from integrations.linear.api import Api
from integrations.linear.documents import (
    ATTACH,
    LINK_PULL,
    SESSION_END,
    UPDATE_ISSUE,
    UPDATE_SESSION,
)
from integrations.linear.markup import is_web
from integrations.linear.speaking import speak
from integrations.wording import one_line

log = structlog.get_logger()


class Ending:
    """What people see of the end. Each step is safe twice, and none but the last must succeed."""

    def __init__(self, api: Api, *, repository_host: str) -> None:
        self._api = api
        self._host = repository_host

    async def say(
        self, conversation: Conversation, session: str, final: Final, *, message_id: str
    ) -> None:
        # After a stop an agent owes one word, and nothing else.
        if final.outcome != "stopped" and (is_web(final.pull_url) or final.review_state):
            await self._show_result(conversation.team, session, final)
        activity = {
            "id": message_id,
            "agentSessionId": session,
            "content": render.final(final),
        }
        await speak(self._api, conversation.team, activity, final)

    async def _show_result(self, team: str, session: str, final: Final) -> None:
        try:
            found = await self._api.ask(team, SESSION_END, SessionMoves, id=session)
        except AuthError:
            raise
        except RejectedError as error:
            log.warning("linear_session_unknown", session=session, error=str(error))
            return
        if is_web(final.pull_url):
            await self._link(team, session, final, found.agent_session)
        if final.review_state and found.agent_session.issue is not None:
            await self._review(team, found.agent_session.issue, final.review_state)

    async def _link(self, team: str, session: str, final: Final, now: SessionStates) -> None:
        url, title = final.pull_url, render.pull_title(final)
        if url not in {link.url for link in now.external_links}:
            changes = {"addedExternalUrls": [{"label": title, "url": url}]}
            await self._try(team, UPDATE_SESSION, id=session, session=changes)
        if now.issue is None:
            return
        rich = render.is_github_pull(url, self._host)
        if not (
            rich and await self._try(team, LINK_PULL, issueId=now.issue.id, url=url, title=title)
        ):
            plain = {"issueId": now.issue.id, "title": title, "url": url, "subtitle": "by Errand"}
            await self._try(team, ATTACH, input=plain)

    async def _review(self, team: str, issue: IssueStates, wanted: str) -> None:
        states = {one_line(state.name).lower(): state for state in issue.team.states.nodes}
        state = states.get(one_line(wanted).lower())
        if state is None:
            log.warning("linear_state_unknown", wanted=wanted, known=sorted(states))
        elif issue.state.is_open and issue.state.id != state.id:
            await self._try(team, UPDATE_ISSUE, id=issue.id, input={"stateId": state.id})

    async def _try(self, team: str, document: str, **given: Any) -> bool:
        """False where Linear refuses it for good; the last word is more important."""
        shape: type[BaseModel] = Done
        try:
            await self._api.ask(team, document, shape, **given)
        except AuthError:
            raise
        except RejectedError as error:
            log.warning("linear_result_not_shown", error=str(error))
            return False
        return True
