"""A delivery becomes whole: Linear is asked once about what it left out."""

import structlog

from integrations.channel import Inbound
from integrations.errors import AuthError, RejectedError
from integrations.linear.answers import IssueRequest, IssueSessionsOf, Request, SessionRequest
from integrations.linear.api import Api
from integrations.linear.beginning import show_life
from integrations.linear.completion import (
    begun_by_us,
    completed_session,
    completed_ticket,
    nothing,
    ours,
    with_request,
)
from integrations.linear.documents import ISSUE_REQUEST, SESSION_REQUEST
from integrations.linear.events import (
    AUTOMATION,
    CLOSED,
    DELEGATED,
    ISSUE_PREFIX,
    PROMPTED,
    Installation,
)
from integrations.linear.sessions import Sessions

log = structlog.get_logger()


class Completing:
    def __init__(self, api: Api, sessions: Sessions, *, public_url: str) -> None:
        self._api = api
        self._sessions = sessions
        self._public_url = public_url

    async def complete(self, inbound: Inbound) -> Inbound:
        """Safe twice: the sign of life that it gives has an id of its own."""
        if not inbound.partial:
            return inbound
        us = (await self._api.workspaces.get(inbound.conversation.team)).installation
        if inbound.semantic_key.startswith(PROMPTED):
            return await self._prompt(inbound, us)
        if not inbound.conversation.thread.startswith(ISSUE_PREFIX):
            return await self._session(inbound, us)
        if inbound.happening == "triggered" or inbound.semantic_key.startswith(DELEGATED):
            return await self._ticket(inbound, us)
        return await self._about(inbound, us)

    async def _session(self, inbound: Inbound, us: Installation) -> Inbound:
        """Somebody delegated a ticket or mentioned us."""
        by_person = inbound.author != AUTOMATION
        if by_person:
            await self._show_life(inbound)
        request = await self._request(inbound, us)
        if begun_by_us(request, self._public_url):
            return nothing(inbound)
        if not by_person:
            await self._show_life(inbound)
        return completed_session(inbound, request, us)

    async def _prompt(self, inbound: Inbound, us: Installation) -> Inbound:
        """Somebody said something in a session whose request had not come when this came."""
        request = await self._request(inbound, us)
        if not begun_by_us(request, self._public_url):
            return with_request(inbound, request, us)
        # Begun before we took note of it.
        await self._sessions.note_request(inbound.conversation.thread)
        return inbound

    async def _request(self, inbound: Inbound, us: Installation) -> Request:
        """What began the session, as Linear has it now."""
        answer = await self._api.ask(
            us.organization_id, SESSION_REQUEST, SessionRequest, id=inbound.conversation.thread
        )
        return answer.agent_session

    async def _show_life(self, inbound: Inbound) -> None:
        here = inbound.conversation
        try:
            await show_life(self._api, here, inbound.message_id, here.thread)
        except AuthError:
            raise
        except RejectedError as error:
            log.warning("linear_no_sign_of_life", session=here.thread, error=str(error))

    async def _ticket(self, inbound: Inbound, us: Installation) -> Inbound:
        """Something was set on a ticket, or it was handed over: who works on it already is told by a session."""
        answer = await self._api.ask(
            us.organization_id, ISSUE_REQUEST, IssueRequest, id=inbound.message_id
        )
        if ours(answer.issue.agent_sessions.nodes, us) or not answer.issue.state.is_open:
            return nothing(inbound)
        return completed_ticket(inbound, answer.issue)

    async def _about(self, inbound: Inbound, us: Installation) -> Inbound:
        """A ticket was taken back, or somebody wants us to stop there: in which conversation?"""
        issue = await self._sessions.on_issue(us.organization_id, inbound.message_id)
        if inbound.happening == "withdrawn" and not _is_withdrawn(inbound, issue, us):
            return nothing(inbound)
        here = inbound.conversation
        update: dict[str, object] = {"partial": False}
        if open_ones := ours(issue.agent_sessions.nodes, us):
            thread = await self._sessions.thread_of(open_ones[0].id)
            update["conversation"] = here.model_copy(
                update={"thread": thread, "place": issue.team.key}
            )
        else:
            update["addressed"] = False
        return inbound.model_copy(update=update)


def _is_withdrawn(inbound: Inbound, issue: IssueSessionsOf, us: Installation) -> bool:
    """As it stands now: what was taken back may have been given again."""
    if inbound.text == CLOSED:
        return not issue.state.is_open
    return issue.delegate is None or issue.delegate.id != us.app_user_id
