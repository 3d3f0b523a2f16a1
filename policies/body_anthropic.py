"""What a body for Anthropic's Messages API asks for. Standard library only: see egress.py."""

import re
from collections.abc import Iterator
from typing import Final

from policies.features import Finding, field, malformed, typed
from policies.strictjson import Object, among, fold, items_of, members_of

MAX_DEPTH: Final = 8
"""Of content within content: a document in a tool's result is the third."""

_FIELDS: Final = frozenset(
    {"model", "messages", "system", "maxtokens", "metadata", "stopsequences", "stream", "temperature"}
    | {"topk", "topp", "thinking", "tools", "toolchoice", "contextmanagement", "outputconfig"}
    | {"outputformat", "cachecontrol"}
)  # fmt: skip
_FEATURES: Final = {"mcpservers": "mcp", "container": "code_execution"}
_TIERS: Final = frozenset({"auto", "standard_only"})
_CLIENT_TOOL: Final = re.compile(
    r"custom|(?:bash|text_editor|memory)_[0-9]{8}|tool_search_tool_(?:regex|bm25)(?:_[0-9]{8})?"
)
"""Run by the client, or in the provider over nothing but the request."""
_BLOCKS: Final = frozenset(
    {"text", "image", "document", "search_result", "content", "thinking", "redacted_thinking", "tool_use"}
    | {"tool_result", "tool_reference", "tool_search_tool_result", "compaction"}
)  # fmt: skip
_SOURCES: Final = frozenset({"base64", "text", "content"})
_SOURCE_FEATURES: Final = {"url": "url_sources", "file": "files"}


def findings(body: Object) -> Iterator[Finding]:
    members = members_of(body)
    if members is None:
        yield malformed("the body, which has a field in two spellings,")
        return
    for key, value in members.items():
        if key == "servicetier":
            if value not in (None, *_TIERS):
                yield field("service_tier")
        elif key in _FEATURES:
            if value:
                yield Finding(_FEATURES[key], f"the field {key}")
        elif key not in _FIELDS:
            yield field(next(name for name in body if fold(name) == key))
    yield from _tools(members.get("tools"))
    yield from _content(members.get("system"), depth=0)
    yield from _messages(members.get("messages"))


def _tools(tools: object) -> Iterator[Finding]:
    for tool in items_of(tools):
        members = members_of(tool)
        if members is None:
            yield malformed("a tool")
            continue
        kind = members.get("type")
        if kind is not None and not (isinstance(kind, str) and _CLIENT_TOOL.fullmatch(kind)):
            yield typed(kind, "the tool")


def _messages(messages: object) -> Iterator[Finding]:
    for message in items_of(messages):
        members = members_of(message)
        if members is None:
            yield malformed("a message")
        else:
            yield from _content(members.get("content"), depth=0)


def _content(content: object, *, depth: int) -> Iterator[Finding]:
    """Of a message, of a tool's result, of a document."""
    if depth > MAX_DEPTH:
        yield malformed("content within content")
        return
    for block in items_of(content):
        members = members_of(block)
        if members is None:
            yield malformed("a block of content")
        else:
            yield from _block(members, depth=depth)


def _block(block: Object, *, depth: int) -> Iterator[Finding]:
    kind = block.get("type")
    if kind == "container_upload":
        yield Finding("files", "the block container_upload")
    elif kind == "server_tool_use":
        if not str(block.get("name")).startswith("tool_search_tool"):
            yield typed(block.get("name"), "the server's tool")
    elif not among(kind, _BLOCKS):
        yield typed(kind, "the block")
    if kind != "tool_use":
        yield from _source(block.get("source"), depth=depth)
        yield from _content(block.get("content"), depth=depth + 1)


def _source(source: object, *, depth: int) -> Iterator[Finding]:
    """Where an image or a document comes from; of a search result, a name for people to read."""
    if source is None or isinstance(source, str):
        return
    members = members_of(source)
    kind = None if members is None else members.get("type")
    if isinstance(kind, str) and kind in _SOURCE_FEATURES:
        yield Finding(_SOURCE_FEATURES[kind], f"a source of the type {kind}")
    elif members is None or not among(kind, _SOURCES):
        yield typed(kind, "the source")
    else:
        for key in ("url", "fileid"):
            if members.get(key) is not None:
                yield malformed(f"a source with {key}")
        yield from _content(members.get("content"), depth=depth + 1)
