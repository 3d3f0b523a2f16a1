"""What is around a request, as text for an agent: pure. Others wrote it; it is labelled so by whoever reads it."""

from collections.abc import Iterable, Sequence
from operator import attrgetter

from integrations.linear.answers import Comment, Issue, ItemName
from integrations.linear.events import MAX_CONTEXT, PLACEHOLDER
from integrations.linear.markup import limited
from integrations.wording import clean, one_line

MAX_DESCRIPTION = 8000
MAX_COMMENT = 2000
PAGE = 30
"""As many comments are asked for."""


def context_of(issue: Issue, *, mentioned: bool, thread: Sequence[Comment]) -> str:
    """The ticket itself where it is not the request, its family, and what was said last.

    What does not fit is left out from the oldest comment on, and that is said.
    """
    parts = [*_ticket(issue, mentioned=mentioned), *_family(issue), *_links(issue)]
    head = "\n\n".join(parts)
    here = _said("Said before in this thread", thread, room=MAX_CONTEXT - len(head))
    threaded = {comment.id for comment in thread}
    others = [
        comment
        for comment in issue.comments.nodes
        if comment.id not in threaded and not comment.body.startswith(PLACEHOLDER)
    ]
    left = MAX_CONTEXT - len(head) - len(here)
    there = _said("Said on the ticket", others, room=left, cut=len(issue.comments.nodes) >= PAGE)
    return clean("\n\n".join(part for part in (head, here, there) if part))


def _ticket(issue: Issue, *, mentioned: bool) -> list[str]:
    head = f"Ticket {issue.identifier} ({issue.state.name}): {one_line(issue.title)}"
    if not mentioned:
        return [head]
    return [head, *([limited(issue.description, MAX_DESCRIPTION)] if issue.description else [])]


def _family(issue: Issue) -> Iterable[str]:
    if issue.parent is not None:
        yield f"Part of {_name(issue.parent)}"
    if issue.children.nodes:
        yield "\n".join(["Its parts:", *(f"- {_name(child)}" for child in issue.children.nodes)])


def _links(issue: Issue) -> Iterable[str]:
    if issue.attachments.nodes:
        shown = (f"- {one_line(a.title)} {one_line(a.url)}" for a in issue.attachments.nodes)
        yield "\n".join(["Linked:", *shown])


def _name(item: ItemName) -> str:
    state = f" ({item.state.name})" if item.state else ""
    return f"{item.identifier}{state}: {one_line(item.title)}"


def _said(heading: str, comments: Sequence[Comment], *, room: int, cut: bool = False) -> str:
    """The newest that fit, oldest first."""
    ordered = sorted(comments, key=attrgetter("created_at"))
    kept: list[str] = []
    for comment in reversed(ordered):
        line = f"{one_line(comment.by)}, {comment.created_at:%Y-%m-%d %H:%M}:\n{limited(comment.body, MAX_COMMENT)}"
        if (room := room - len(line) - 2) < 0:
            break
        kept.insert(0, line)
    hidden = len(ordered) - len(kept)
    gone = f" (older ones are left out: {hidden if not cut else 'some'})" if hidden or cut else ""
    return "\n\n".join([f"{heading}{gone}:", *kept]) if kept or hidden else ""
