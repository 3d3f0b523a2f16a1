"""Counts what a call of a model used, from the answer as it passes. No I/O.

The same bytes give the same count, however they are cut. What a provider says counts; where an answer breaks off before
it has said so, the text that came is counted instead.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from policies.dialects import Form
from policies.prices import Tokens

EVENT_BYTES = 8 * 1024 * 1024
"""Of one event, or of an answer that is no stream; what is longer is counted by its length."""
CHARACTERS_PER_TOKEN = 3
_MOST = 10**9
_DEPTH = 8
_TEXTS = frozenset(
    {"text", "thinking", "partial_json", "delta", "content", "arguments", "input", "reasoning_content"}
    | {"reasoning", "refusal", "args"}
)  # fmt: skip
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Meter:
    """Feed it the body of one answer; `asked` is the length of the request's."""

    def __init__(self, form: Form, *, stream: bool, asked: int) -> None:
        self.final = False
        """The provider has said what the call used."""
        self._form = form
        self._events = _Events() if stream else None
        self._whole = bytearray()
        self._told = Tokens()
        self._asked = asked
        self._characters = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        if self._events is None:
            room = EVENT_BYTES - len(self._whole)
            self._whole += data[:room]
            self._characters += len(data[room:])
            return
        for event in self._events.feed(data):
            self._hear(event)

    def end(self) -> None:
        """Nothing more comes. Safe twice."""
        if self._ended:
            return
        self._ended = True
        if self._events is None:
            self._hear(bytes(self._whole))
            return
        for event in self._events.end():
            self._hear(event)

    @property
    def tokens(self) -> Tokens:
        """What it used as far as is known; at the end of a call that broke off, as far as can be guessed."""
        if self.final:
            return self._told
        told = self._told
        written = self._characters + (self._events.lost if self._events else 0)
        guess = Tokens(
            input=0 if told.prompt else -(-self._asked // CHARACTERS_PER_TOKEN),
            output=-(-written // CHARACTERS_PER_TOKEN),
        )
        return told.at_least(guess)

    def _hear(self, data: bytes) -> None:
        if self._form == "chat" and data.strip() == b"[DONE]":
            self.final = self._told != Tokens()
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            self._characters += len(data)
            return
        if isinstance(event, dict):
            self._characters += _text(event)
            told, final = _USED[self._form](event)
            # Anthropic tells the prompt and the output apart; the others all at once, and better later.
            whole = self._form != "messages" and told.prompt > 0
            self._told = told if whole else self._told.at_least(told)
            self.final = self.final or (final and self._told != Tokens())


class _Events:
    """The data of server-sent events."""

    def __init__(self) -> None:
        self.lost = 0
        """Bytes of what was too long to be read."""
        self._line = bytearray()
        self._skipped = 0
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(line)
            yield from self._line_ended()
        self._take(rest)

    def end(self) -> Iterator[bytes]:
        """What a stream without a last empty line ends with."""
        yield from self._line_ended()
        yield from self._line_ended()

    def _take(self, part: bytes) -> None:
        if self._skipped or len(self._line) + len(part) > EVENT_BYTES:
            self._skipped += len(self._line) + len(part)
            self._line.clear()
        else:
            self._line += part

    def _line_ended(self) -> Iterator[bytes]:
        line = bytes(self._line).removesuffix(b"\r")
        skipped, self._skipped = self._skipped, 0
        self._line.clear()
        self.lost += skipped
        if not line and not skipped:
            if self._data:
                yield b"\n".join(self._data)
            self._data, self._size = [], 0
        elif line.startswith(b"data:"):
            self._size += len(line)
            if self._size > EVENT_BYTES:
                self.lost += len(line)
            else:
                self._data.append(line[5:].removeprefix(b" "))


def _messages(event: Mapping[str, Any]) -> tuple[Tokens, bool]:
    """Anthropic: the prompt at the start, the output in `message_delta`."""
    kind = event.get("type")
    message = event.get("message") if kind == "message_start" else event
    usage = _object(message, "usage")
    made = _object(usage, "cache_creation")
    hour = _count(made, "ephemeral_1h_input_tokens")
    told = Tokens(
        input=_count(usage, "input_tokens"),
        output=_count(usage, "output_tokens"),
        cache_read=_count(usage, "cache_read_input_tokens"),
        cache_write=max(0, _count(usage, "cache_creation_input_tokens") - hour),
        cache_write_hour=hour,
    )
    return told, kind in {"message_stop", "message"} or (kind == "message_delta" and bool(usage))


def _chat(event: Mapping[str, Any]) -> tuple[Tokens, bool]:
    """OpenAI's chat: in the last event before [DONE], if the client asked for it."""
    usage = _object(event, "usage")
    cached = _count(_object(usage, "prompt_tokens_details"), "cached_tokens")
    told = Tokens(
        input=max(0, _count(usage, "prompt_tokens") - cached),
        output=_count(usage, "completion_tokens"),
        cache_read=cached,
    )
    return told, event.get("object") == "chat.completion"


def _responses(event: Mapping[str, Any]) -> tuple[Tokens, bool]:
    ended = event.get("type") in _RESPONSE_ENDS
    usage = _object(_object(event, "response") if ended else event, "usage")
    details = _object(usage, "input_tokens_details")
    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    told = Tokens(
        input=max(0, _count(usage, "input_tokens") - cached - written),
        output=_count(usage, "output_tokens"),
        cache_read=cached,
        cache_write=written,
    )
    return told, ended or event.get("object") == "response"


def _gemini(event: Mapping[str, Any]) -> tuple[Tokens, bool]:
    """Google: totals in every event."""
    usage = _object(event, "usageMetadata")
    cached = _count(usage, "cachedContentTokenCount")
    prompt = _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount")
    told = Tokens(
        input=max(0, prompt - cached),
        output=_count(usage, "candidatesTokenCount") + _count(usage, "thoughtsTokenCount"),
        cache_read=cached,
    )
    candidates = event.get("candidates")
    last = candidates[-1] if isinstance(candidates, list) and candidates else None
    return told, isinstance(last, dict) and last.get("finishReason") is not None


_USED = {"messages": _messages, "chat": _chat, "responses": _responses, "gemini": _gemini}


def _object(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _count(usage: Mapping[str, Any], key: str) -> int:
    found = usage.get(key)
    return min(found, _MOST) if type(found) is int and found > 0 else 0


def _text(value: object, depth: int = 0) -> int:
    """Characters that a model wrote, wherever in an event they stand."""
    if depth > _DEPTH:
        return 0
    if isinstance(value, list):
        return sum(_text(item, depth + 1) for item in value)
    if not isinstance(value, dict):
        return 0
    return sum(
        len(item) if isinstance(item, str) and key in _TEXTS else _text(item, depth + 1)
        for key, item in value.items()
    )
