"""What a body for OpenAI's Responses and Chat Completions asks for. Standard library only: see egress.py."""

from collections.abc import Iterator
from typing import Final

from policies.features import Finding, field, malformed, typed
from policies.strictjson import Object, among, fold, items_of, members_of

_BOTH: Final = frozenset(
    {"model", "tools", "toolchoice", "stream", "streamoptions", "store", "temperature", "topp", "metadata"}
    | {"user", "safetyidentifier", "promptcachekey", "promptcacheretention", "toplogprobs", "verbosity"}
    | {"paralleltoolcalls"}
)  # fmt: skip
_RESPONSES: Final = _BOTH | {
    "input", "instructions", "maxoutputtokens", "maxtoolcalls", "reasoning", "text", "truncation", "include",
    "contextmanagement",
}  # fmt: skip
_CHAT: Final = _BOTH | {
    "messages", "functions", "functioncall", "n", "maxtokens", "maxcompletiontokens", "stop", "presencepenalty",
    "frequencypenalty", "logitbias", "logprobs", "responseformat", "seed", "reasoningeffort", "prediction",
    "modalities", "audio",
}  # fmt: skip
_FEATURES: Final = {
    "previousresponseid": "stored_state",
    "conversation": "stored_state",
    "prompt": "stored_state",
    "background": "background",
    "websearchoptions": "web_search",
}
_TIERS: Final = frozenset({"auto", "default", "flex"})
_TOOLS: Final = frozenset({"function", "custom", "local_shell", "apply_patch"})
_ITEMS: Final = frozenset(
    {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
    | {"reasoning", "local_shell_call", "local_shell_call_output", "apply_patch_call"}
    | {"apply_patch_call_output", "compaction"}
)  # fmt: skip
_PARTS: Final = frozenset(
    {"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text", "input_image"}
    | {"input_file", "input_audio", "image_url", "file"}
)  # fmt: skip


def findings_of_responses(body: Object) -> Iterator[Finding]:
    members = members_of(body)
    if members is None:
        yield malformed("the body, which has a field in two spellings,")
        return
    yield from _fields(body, members, known=_RESPONSES)
    yield from _tools(members.get("tools"))
    for item in items_of(members.get("input")):
        found = members_of(item)
        if found is None:
            yield malformed("an item of the input")
        else:
            yield from _item(found)


def findings_of_chat(body: Object) -> Iterator[Finding]:
    members = members_of(body)
    if members is None:
        yield malformed("the body, which has a field in two spellings,")
        return
    yield from _fields(body, members, known=_CHAT)
    yield from _tools(members.get("tools"))
    for message in items_of(members.get("messages")):
        found = members_of(message)
        if found is None:
            yield malformed("a message")
        else:
            yield from _parts(found.get("content"))


def _fields(body: Object, members: Object, *, known: frozenset[str]) -> Iterator[Finding]:
    for key, value in members.items():
        if key == "servicetier":
            if value not in (None, *_TIERS):
                yield field("service_tier")
        elif key in _FEATURES:
            if value not in (None, False):
                yield Finding(_FEATURES[key], f"the field {key}")
        elif key not in known:
            yield field(next(name for name in body if fold(name) == key))


def _tools(tools: object) -> Iterator[Finding]:
    for tool in items_of(tools):
        members = members_of(tool)
        if members is None:
            yield malformed("a tool")
        elif not among(members.get("type"), _TOOLS):
            yield typed(members.get("type"), "the tool")


def _item(item: Object) -> Iterator[Finding]:
    kind = item.get("type")
    # A message may leave its type out.
    bare = kind is None and "role" in item
    if not bare and not among(kind, _ITEMS):
        yield typed(kind, "the item")
    for key in ("content", "output", "summary"):
        yield from _parts(item.get(key))


def _parts(content: object) -> Iterator[Finding]:
    """Of a message, of a tool's output: texts, images, files."""
    for part in items_of(content):
        members = members_of(part)
        if members is None:
            yield malformed("a part of the content")
            continue
        if not among(members.get("type"), _PARTS):
            yield typed(members.get("type"), "the part")
        yield from _references(members)
        for key in ("file", "imageurl"):
            inner = members.get(key)
            if isinstance(inner, dict):
                found = members_of(inner)
                yield from [malformed(f"a part's {key}")] if found is None else _references(found)


def _references(part: Object) -> Iterator[Finding]:
    """To what is not in the request itself."""
    if part.get("fileid") is not None:
        yield Finding("files", "a file_id")
    if part.get("fileurl") is not None:
        yield Finding("url_sources", "a file_url")
    for key in ("imageurl", "url", "filedata"):
        value = part.get(key)
        if value is None or isinstance(value, dict):
            continue
        if not isinstance(value, str):
            yield malformed(f"a part's {key}")
        elif ":" in value and not value.casefold().startswith("data:"):
            yield Finding("url_sources", f"a URL in {key}")
        elif key != "filedata" and ":" not in value:
            yield malformed(f"a part's {key}, which is no data: URL,")
