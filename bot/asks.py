"""What a message asks of the policy: pure."""

from bot.store.rows import TaskRow
from bot.words import Request
from integrations.channel import Inbound
from policies.model import Action, Ask


def to_start(inbound: Inbound, request: Request, *, repo: str | None) -> Ask:
    """May this person start this, here?"""
    return Ask(
        person=inbound.author,
        where=inbound.conversation.where,
        action="start",
        repo=repo,
        agent=request.agent,
        topics=inbound.topics,
        suggested=inbound.suggested.repo if inbound.suggested else None,
    )


def about(task: TaskRow, inbound: Inbound, *, action: Action, agent: str | None = None) -> Ask:
    """May this person do this to that task?"""
    return Ask(
        person=inbound.author,
        where=inbound.conversation.where,
        action=action,
        repo=task.repo,
        agent=agent,
        task_requester=task.requester,
    )
