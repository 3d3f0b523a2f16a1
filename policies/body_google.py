"""What a body for Google's generateContent asks for. Standard library only: see egress.py."""

from collections.abc import Iterator
from typing import Final

from policies.features import Finding, field, malformed, typed
from policies.strictjson import Object, fold, items_of, members_of

MAX_DEPTH: Final = 8

_FIELDS: Final = frozenset(
    {
        "contents",
        "systeminstruction",
        "tools",
        "toolconfig",
        "safetysettings",
        "generationconfig",
        "labels",
    }
)
_PARTS: Final = frozenset(
    {"text", "inlinedata", "functioncall", "functionresponse", "thought", "thoughtsignature"}
    | {"videometadata", "mediaresolution", "partmetadata"}
)
_PART_FEATURES: Final = {
    "filedata": "url_sources",
    "executablecode": "code_execution",
    "codeexecutionresult": "code_execution",
}


def findings(body: Object) -> Iterator[Finding]:
    members = members_of(body)
    if members is None:
        yield malformed("the body, which has a field in two spellings,")
        return
    for key, value in members.items():
        if key == "cachedcontent":
            if value is not None:
                yield Finding("stored_state", "the field cachedContent")
        elif key not in _FIELDS:
            yield field(next(name for name in body if fold(name) == key))
    yield from _tools(members.get("tools"))
    for content in [
        *items_of(members.get("contents")),
        *items_of(members.get("systeminstruction")),
    ]:
        found = members_of(content)
        if found is None:
            yield malformed("a content")
        else:
            yield from _parts(found.get("parts"), depth=0)


def _tools(tools: object) -> Iterator[Finding]:
    """A tool is named by its key; one object may hold several."""
    for tool in items_of(tools):
        if not isinstance(tool, dict) or members_of(tool) is None:
            yield malformed("a tool")
            continue
        for key in tool:
            if fold(key) != "functiondeclarations":
                yield typed(key, "the tool")


def _parts(parts: object, *, depth: int) -> Iterator[Finding]:
    if depth > MAX_DEPTH:
        yield malformed("content within content")
        return
    for part in items_of(parts):
        members = members_of(part)
        if members is None:
            yield malformed("a part")
        else:
            yield from _part(members, depth=depth)


def _part(part: Object, *, depth: int) -> Iterator[Finding]:
    for key in part:
        if key in _PART_FEATURES:
            yield Finding(_PART_FEATURES[key], f"the part {key}")
        elif key not in _PARTS:
            yield typed(key, "the part")
    # What a function gave back is the agent's own text, but for the media beside it.
    for response in items_of(part.get("functionresponse")):
        members = members_of(response)
        if members is None:
            yield malformed("a function's response")
        else:
            yield from _parts(members.get("parts"), depth=depth + 1)
