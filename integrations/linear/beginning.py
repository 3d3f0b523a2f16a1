"""The first sign of life in a session, and what beginning the work does to its ticket."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

from integrations.channel import Conversation
from integrations.errors import AuthError, RejectedError
from integrations.linear import render
from integrations.linear.answers import Done, SessionMoves, SessionStates, State
from integrations.linear.api import Api
from integrations.linear.documents import SESSION_START, UPDATE_ISSUE
from integrations.linear.graphql import FIRST_SIGN_SECONDS
from integrations.linear.ids import made_from

log = structlog.get_logger()

WAITING: Final = frozenset({"triage", "backlog", "unstarted"})


# Any: an activity is JSON.
def first_thought(conversation: Conversation, message_id: str, session: str) -> Mapping[str, Any]:
    """The same activity however often, and whoever sends it first."""
    return {
        "id": made_from(conversation.thread, message_id, "seen"),
        "agentSessionId": session,
        "content": render.SEEN,
    }


async def show_life(api: Api, conversation: Conversation, message_id: str, session: str) -> None:
    """Say within Linear's ten seconds that the request has arrived."""
    thought = first_thought(conversation, message_id, session)
    await api.act(conversation.team, thought, seconds=FIRST_SIGN_SECONDS)


async def take_over(api: Api, team: str, session: str) -> None:
    """Move the ticket to started and become its delegate, where that is proper."""
    start = await api.ask(team, SESSION_START, SessionMoves, id=session)
    us = (await api.workspaces.get(team)).app_user_id
    changes = _changes(start.agent_session, us)
    issue = start.agent_session.issue
    if issue is None or not changes:
        return
    try:
        await api.ask(team, UPDATE_ISSUE, Done, id=issue.id, input=changes)
    except AuthError:
        raise
    except RejectedError as error:
        # The work goes on: that it shows in the ticket's state is a courtesy.
        log.warning("linear_ticket_not_moved", session=session, error=str(error))


def _changes(session: SessionStates, us: str) -> dict[str, str]:
    issue = session.issue
    if issue is None:
        return {}
    changes = {} if issue.delegate is not None else {"delegateId": us}
    by_person = session.creator is not None and not session.creator.app
    if issue.state.type in WAITING and (by_person or issue.state.type != "triage"):
        first = first_of(issue.team.states.nodes, "started")
        changes |= {"stateId": first.id} if first else {}
    return changes if issue.state.is_open else {}


def first_of(states: tuple[State, ...], kind: str) -> State | None:
    fitting = [state for state in states if state.type == kind]
    return min(fitting, key=lambda state: state.position, default=None)
