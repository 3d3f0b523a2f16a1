"""What was said around a request becomes background for the agent: pure, and never longer than it may be."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from integrations.slack.messages import File, Message
from integrations.slack.mrkdwn import mentions, plain
from integrations.wording import one_line

TOTAL = 12_000
"""Characters of background in one request."""
MESSAGE = 3_000
FILE = 6_000
NONE: frozenset[str] = frozenset()
PLAIN_SUBTYPES = frozenset({"", "file_share", "thread_broadcast"})
"""Messages that a person has written; every other subtype is Slack's own account of something."""


def said_before(
    thread: Sequence[Message], *, at: str, bot_user: str, alone: bool = False
) -> list[Message]:
    """What people said since the bot was last spoken to, up to the message at `at`, oldest first.

    `alone`: the message at `at` is none of the requester's own, and counts too.
    """
    kept: list[Message] = []
    for message in sorted(thread, key=lambda m: _number(m.ts)):
        if _number(message.ts) > _number(at) or (message.ts == at and not alone):
            break
        if not _human(message):
            continue
        if mentions(message.text, bot_user):
            kept = []
        else:
            kept.append(message)
    return kept


def _human(message: Message) -> bool:
    return bool(message.user) and not message.bot_id and message.subtype in PLAIN_SUBTYPES


def background(
    messages: Sequence[Message], own: Message | None, *, names: Mapping[str, str],
    files: Mapping[str, str], pictures: AbstractSet[str] = NONE,
) -> str:  # fmt: skip
    """The messages, what the request itself quotes and has attached; the newest is kept where room is short.

    `names` by user id; `files` the texts by file id, for those that could be read; `pictures` go along by
    themselves.
    """
    parts = [_entry(message, names) for message in messages]
    attached = [file for message in messages for file in message.files]
    if own is not None:
        parts += [_quote(q.author, q.text, q.link, names) for q in own.quoted]
        attached += own.files
    named = [_attachment(f, files.get(f.id), goes_along=f.id in pictures) for f in attached]
    return _within(parts, named)


def _entry(message: Message, names: Mapping[str, str]) -> str:
    text = _cut(plain(message.text).strip(), MESSAGE)
    quotes = [_quote(q.author, q.text, q.link, names) for q in message.quoted]
    head = f"{_name(message.user, names)}, {_time(message.ts)}:"
    return "\n".join([head, text, *quotes]).rstrip()


def _quote(author: str, text: str, link: str, names: Mapping[str, str]) -> str:
    source = f" ({link})" if link else ""
    return f"Forwarded, by {_name(author, names)}{source}:\n{_cut(plain(text).strip(), MESSAGE)}"


def _attachment(file: File, text: str | None, *, goes_along: bool) -> str:
    head = f"Attached: {one_line(file.name)} ({file.kind or 'unknown kind'}, {file.size} bytes)"
    if goes_along:
        return f"{head}; it goes along as an image, for an agent that can see."
    if text is None:
        return f"{head}; it is not given here, for it is no text, too long, or could not be had."
    return f"{head}:\n{_cut(text, FILE)}"


def _within(parts: Sequence[str], attachments: Sequence[str]) -> str:
    """Attachments first of all, then as many messages as fit, from the newest on; what is left out is said."""
    room, kept_files = TOTAL, []
    for text in attachments:
        if len(text) <= room:
            kept_files.append(text)
            room -= len(text)
    kept: list[str] = []
    for text in reversed(parts):
        if len(text) > room:
            break
        kept.insert(0, text)
        room -= len(text)
    notes = [
        f"({count} {noun} left out: there was no room.)"
        for count, noun in (
            (len(parts) - len(kept), "earlier messages"),
            (len(attachments) - len(kept_files), "attachments"),
        )
        if count
    ]
    return "\n\n".join([*notes, *kept, *kept_files])


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}\n({len(text) - limit} more characters left out.)"


def _name(user: str, names: Mapping[str, str]) -> str:
    return one_line(names.get(user, user)) or "somebody"


def _time(ts: str) -> str:
    return datetime.fromtimestamp(int(_number(ts)), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _number(ts: str) -> float:
    try:
        return min(max(float(ts), 0.0), 4e9)
    except ValueError:
        return 0.0
