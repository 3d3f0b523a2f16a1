"""Which session a conversation speaks in; one is begun for a ticket that has none."""

import asyncio
from typing import Final

from integrations.channel import Conversation, Inbound, Receive
from integrations.errors import RejectedError
from integrations.linear.answers import IssueSessions, IssueSessionsOf, SessionMade
from integrations.linear.api import Api
from integrations.linear.documents import ISSUE_SESSIONS, SESSION_ON_ISSUE
from integrations.linear.events import ISSUE_PREFIX, NAME, PROMPTED, REQUESTED
from integrations.notes import Notes

LABEL: Final = "Errand"
"""Of the link from a session to its task's page."""


class Sessions:
    """A conversation's thread is a session's id, or `issue:<id>`: then notes know the session."""

    def __init__(self, api: Api, *, notes: Notes, public_url: str) -> None:
        self._api = api
        self._notes = notes
        self._public_url = public_url
        self._beginning = asyncio.Lock()

    async def known(self, conversation: Conversation) -> str | None:
        """The session, if it has begun."""
        if not conversation.thread.startswith(ISSUE_PREFIX):
            return conversation.thread
        return await self._notes.get(_opened(conversation))

    async def of(self, conversation: Conversation) -> str:
        """The session; begun now if need be, and once however often."""
        found = await self.known(conversation)
        if found is None:
            async with self._beginning:
                found = await self.known(conversation) or await self._begun(conversation)
        return found

    async def _begun(self, conversation: Conversation) -> str:
        team, issue_id = conversation.team, conversation.thread.removeprefix(ISSUE_PREFIX)
        page = self.placeholder(conversation)
        there = with_page(await self.on_issue(team, issue_id), page)
        session = there or await self.begin(team, issue_id, page)
        # What people say in the session comes with its id: it belongs to this conversation.
        await self._notes.put(_stands_for(session), conversation.thread)
        if await self._notes.swap(_opened(conversation), None, session):
            return session
        return await self._notes.get(_opened(conversation)) or session

    def placeholder(self, conversation: Conversation) -> str:
        """The page that a session leads to before the task's own is known: by it we know it as ours."""
        return f"{self._public_url}/tasks/#{conversation.thread.removeprefix(ISSUE_PREFIX)}"

    async def on_issue(self, team: str, issue: str) -> IssueSessionsOf:
        """A ticket, by its id or identifier, with its sessions."""
        found = await self._api.ask(team, ISSUE_SESSIONS, IssueSessions, id=issue)
        return found.issue

    async def begin(self, team: str, issue_id: str, page: str) -> str:
        """A new session on a ticket. Not safe twice: look with `with_page` before."""
        asked = {"issueId": issue_id, "externalUrls": [{"label": LABEL, "url": page}]}
        made = await self._api.ask(team, SESSION_ON_ISSUE, SessionMade, input=asked)
        return made.agent_session_create_on_issue.agent_session.id

    async def thread_of(self, session: str) -> str:
        """The thread of the conversation that a session belongs to."""
        return await self._notes.get(_stands_for(session)) or session

    async def take(self, inbound: Inbound, receive: Receive) -> None:
        """Have it stored, in the conversation that it belongs to; and know from then on that a request has come."""
        await receive(await self._placed(inbound))
        if inbound.semantic_key.startswith(REQUESTED):
            await self.note_request(inbound.conversation.thread)

    async def _placed(self, inbound: Inbound) -> Inbound:
        """What was said in a session that we began for a ticket belongs to the ticket's conversation.

        What is said in a session whose request never came (its delivery failed, say) is partial.
        """
        here = inbound.conversation
        if here.thread.startswith(ISSUE_PREFIX):
            return inbound
        thread = await self.thread_of(here.thread)
        if thread != here.thread:
            there = here.model_copy(update={"thread": thread})
            return inbound.model_copy(update={"conversation": there})
        if inbound.semantic_key.startswith(PROMPTED) and not await self._has_come(thread):
            return inbound.model_copy(update={"partial": True})
        return inbound

    async def _has_come(self, session: str) -> bool:
        """Whether we know what was asked for when the session began."""
        return await self._notes.get(_came(session)) is not None

    async def note_request(self, session: str) -> None:
        await self._notes.put(_came(session), "")


def with_page(issue: IssueSessionsOf, page: str) -> str | None:
    """The session that leads to a page of ours."""
    for session in issue.agent_sessions.nodes:
        if any(link.url == page for link in session.external_links):
            return session.id
    return None


def must_be_spoken_in(conversation: Conversation) -> None:
    """Raises RejectedError for what can't be a conversation here."""
    if not (conversation.team and conversation.thread):
        raise RejectedError(NAME, f"{conversation.key} is no session")


def _opened(conversation: Conversation) -> str:
    issue = conversation.thread.removeprefix(ISSUE_PREFIX)
    return f"{NAME}:opened:{conversation.team}:{issue}"


def _came(session: str) -> str:
    return f"{NAME}:request:{session}"


def _stands_for(session: str) -> str:
    return f"{NAME}:thread:{session}"
