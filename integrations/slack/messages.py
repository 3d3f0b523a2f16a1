"""A message as Slack's Web API gives it, as far as we read it: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What is attached to a message."""

    id: str
    name: str
    kind: str
    """The media type."""
    size: int
    address: str
    """Where it can be had with our token; empty for what lives elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A message that somebody forwarded, or that a link to it brought along."""

    author: str
    text: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    ts: str
    thread: str
    """The thread's root; the message's own ts where it has none."""
    user: str
    bot_id: str
    subtype: str
    text: str
    """In Slack's markup."""
    key: str
    """The key it was posted with, if it is one of ours."""
    files: tuple[File, ...] = ()
    quoted: tuple[Quoted, ...] = ()


def message_of(raw: Mapping[str, object]) -> Message:
    metadata = _mapping(raw.get("metadata"))
    payload = _mapping(metadata.get("event_payload"))
    ts = _text(raw, "ts")
    return Message(
        ts=ts,
        thread=_text(raw, "thread_ts") or ts,
        user=_text(raw, "user"),
        bot_id=_text(raw, "bot_id"),
        subtype=_text(raw, "subtype"),
        text=_text(raw, "text"),
        key=_text(payload, "key"),
        files=tuple(_file(file) for file in _mappings(raw.get("files"))),
        quoted=tuple(
            _quoted(part)
            for part in _mappings(raw.get("attachments"))
            if part.get("is_share") or part.get("is_msg_unfurl")
        ),
    )


def _file(raw: Mapping[str, object]) -> File:
    size = raw.get("size")
    return File(
        id=_text(raw, "id"),
        name=_text(raw, "name") or _text(raw, "title") or "a file",
        kind=_text(raw, "mimetype"),
        size=size if isinstance(size, int) else 0,
        address="" if raw.get("is_external") else _text(raw, "url_private_download"),
    )


def _quoted(raw: Mapping[str, object]) -> Quoted:
    return Quoted(
        author=_text(raw, "author_id") or _text(raw, "author_name"),
        text=_text(raw, "text") or _text(raw, "fallback"),
        link=_text(raw, "from_url"),
    )


def _text(raw: Mapping[str, object], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Sequence[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
