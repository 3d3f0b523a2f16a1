"""A delivery, with what Linear answered about its ticket: pure."""

from collections.abc import Sequence

from integrations.channel import Inbound
from integrations.linear.answers import Comment, Issue, Request, SessionHead, open_blockers
from integrations.linear.context import context_of
from integrations.linear.events import (
    AUTOMATION,
    MAX_TEXT,
    NAME,
    PLACEHOLDER,
    Installation,
    author,
    label_topic,
    name,
    request_text,
    title_for,
)
from integrations.linear.markup import is_web, limited, mentions, without_mention
from integrations.wording import clean, one_line

MOST_URGENT, LEAST_URGENT = 1, 4


def nothing(inbound: Inbound) -> Inbound:
    """It turned out to be no request: whoever decides has nothing to answer."""
    return inbound.model_copy(
        update={
            "partial": False,
            "happening": "said",
            "addressed": False,
            "text": "",
            "title": "",
            "context": "",
            "topics": (),
            "item": "",
        }
    )


def begun_by_us(request: Request, public_url: str) -> bool:
    """A session for work that was asked for elsewhere: it leads to a page of ours, or stands on a ticket of ours."""
    if any(is_our_page(link.url, public_url) for link in request.external_links):
        return True
    us, creator = request.app_user.id, request.creator
    if creator is not None:
        return creator.id == us
    made = request.issue.creator if request.issue else None
    return made is not None and made.id == us


def is_our_page(url: str, public_url: str) -> bool:
    return url.startswith(f"{public_url}/tasks/")


def ours(sessions: Sequence[SessionHead], us: Installation) -> list[SessionHead]:
    """Our open sessions on a ticket, the newest first."""
    found = [s for s in sessions if s.app_user.id == us.app_user_id and s.is_open]
    return sorted(found, key=lambda session: session.created_at, reverse=True)


def completed_session(inbound: Inbound, request: Request, us: Installation) -> Inbound:
    """A session that a person or an automation began."""
    issue = request.issue
    person = request.creator.person if request.creator else None
    known: dict[str, object] = {
        "partial": False,
        "author": author(person, None) if person else inbound.author or AUTOMATION,
        "author_name": name(person) if person else inbound.author_name,
    }
    if is_web(request.url or ""):
        known["link"] = request.url
    if issue is None:
        return inbound.model_copy(update=known)
    before, mention = _mention(request, us)
    title = one_line(issue.title)
    text = request_text(title, issue.description)
    if mention is not None:
        text = limited(clean(without_mention(mention.body, us.app_name)), MAX_TEXT)
    known |= {
        "conversation": inbound.conversation.model_copy(update={"place": issue.team.key}),
        "message_id": issue.id,
        "text": text,
        "title": title_for(text, title, mentioned=mention is not None),
        "context": context_of(issue, mentioned=mention is not None, thread=before),
        "topics": topics_of(issue),
        **_facts(issue),
    }
    return inbound.model_copy(update=known)


def with_request(prompt: Inbound, request: Request, us: Installation) -> Inbound:
    """What was said in a session before we knew its request, with that before it: it is theirs who said this.

    A single word (`stop`, `help`) is not about the request, which comes by itself in time.
    """
    if len(prompt.text.split()) <= 1 or request.issue is None:
        return prompt
    whole = completed_session(prompt, request, us)
    return whole.model_copy(
        update={
            "text": f"{whole.text}\n\n{prompt.text}",
            "author": prompt.author,
            "author_name": prompt.author_name,
        }
    )


def completed_ticket(inbound: Inbound, issue: Issue) -> Inbound:
    """A ticket without a session: what was set there, or that it is ours to do."""
    title = one_line(issue.title)
    return inbound.model_copy(
        update={
            "partial": False,
            "text": request_text(title, issue.description),
            "title": title,
            "context": context_of(issue, mentioned=False, thread=()),
            # What was newly set stays alone: what was there before did not ask for anything.
            "topics": inbound.topics or topics_of(issue),
            **_facts(issue),
        }
    )


def topics_of(issue: Issue) -> tuple[str, ...]:
    """The most specific first; labels by name, since Linear's order says nothing."""
    labels = sorted(label_topic(label.name) for label in issue.labels.nodes)
    project = (f"{NAME}:project:{one_line(issue.project.name)}",) if issue.project else ()
    return (*labels, *project)


def _facts(issue: Issue) -> dict[str, object]:
    priority = round(issue.priority)
    return {
        "item": one_line(issue.identifier),
        "branch": one_line(issue.branch_name),
        "priority": priority if MOST_URGENT <= priority <= LEAST_URGENT else 0,
        "waits_for": open_blockers(issue.inverse_relations.nodes),
    }


def _mention(request: Request, us: Installation) -> tuple[list[Comment], Comment | None]:
    """What was said in the thread before the comment that mentions us; and that, if there is one."""
    root, source = request.comment, request.source_comment
    thread: list[Comment] = []
    if root is not None and not _is_placeholder(root, us):
        thread = sorted([root, *root.children.nodes], key=lambda comment: comment.created_at)
    named = [
        comment
        for comment in thread
        if comment.created_at <= request.created_at and mentions(comment.body, us.app_name)
    ]
    mention = source or next(reversed(named), None) or next(iter(thread), None)
    if mention is None:
        return [], None
    before = [c for c in thread if c.created_at < mention.created_at and c.id != mention.id]
    return before, mention


def _is_placeholder(comment: Comment, us: Installation) -> bool:
    """The comment that Linear makes itself where a session begins without a mention."""
    by = comment.user.id if comment.user else None
    if by == us.app_user_id or comment.body.startswith(PLACEHOLDER):
        return True
    return by is None and not mentions(comment.body, us.app_name)
