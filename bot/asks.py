"""What a message asks of the policy: pure."""

from bot.store.rows import TaskRow
from bot.words import Request
from integrations.channel import Inbound
from policies.model import Action, Ask


def to_start(
    inbound: Inbound, request: Request, *, repo: str | None, chosen: str | None = None
) -> Ask:
    """May this person start this, here? `chosen` is what people have set for the place."""
    return Ask(
        person=inbound.author,
        where=inbound.conversation.where,
        action="start",
        repo=repo,
        agent=request.agent,
        model=request.model,
        text=f"{inbound.title}\n{request.prompt}",
        topics=inbound.topics,
        chosen=chosen,
        apart=inbound.standing,
        shared=inbound.shared,
        suggested=inbound.suggested.repo if inbound.suggested else None,
    )


def about(
    task: TaskRow,
    inbound: Inbound,
    *,
    action: Action,
    agent: str | None = None,
    model: str | None = None,
) -> Ask:
    """May this person do this to that task?"""
    return Ask(
        person=inbound.author,
        where=inbound.conversation.where,
        action=action,
        repo=task.repo,
        agent=agent,
        model=model,
        apart=inbound.standing,
        shared=inbound.shared,
        task_requester=task.requester,
    )


def to_set(inbound: Inbound, *, repo: str) -> Ask:
    """May this person make it what the place stands for?"""
    return Ask(
        person=inbound.author,
        where=inbound.conversation.where,
        action="settings",
        repo=repo,
        apart=inbound.standing,
        shared=inbound.shared,
    )
