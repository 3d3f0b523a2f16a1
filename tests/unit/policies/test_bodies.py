"""What a request to a model may ask for: everything that stays between it and the agent, and what policy names."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bodies import body_refusal
from policies.dialects import Asked, Form
from policies.features import FEATURES

FORMS: tuple[Form, ...] = ("messages", "responses", "chat", "gemini")
MODELS = ("claude-*", "gpt-*")
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
DATA = "data:image/png;base64,aGk="


def refusal(form: Form, body: object, *allow: str) -> str | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    model = "claude-x" if form == "gemini" else None
    asked = Asked(form=form, kind="generate", model=model, target="/")
    return body_refusal(asked, raw, models=MODELS, allow=allow)


def messages(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "claude-x", "messages": [{"role": "user", "content": list(content)}], **fields}


def responses(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "input": list(items), **fields}


def chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "messages": [{"role": "user", "content": list(parts)}], **fields}


def gemini(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}], **fields}


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("messages", messages({"type": "text", "text": "hi"}, max_tokens=1, stream=True, metadata={"user_id": "u"})),
        ("messages", {"model": "claude-x", "system": "be brief", "messages": [{"role": "user", "content": "hi"}]}),
        ("messages", messages({"type": "image", "source": PNG}, thinking={"type": "adaptive"})),
        ("messages", messages({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": PNG}]}})),
        ("messages", messages({"type": "tool_use", "id": "t", "name": "get", "input": {"source": {"type": "url", "url": "http://x"}}})),
        ("messages", messages({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "http://x"}]})),
        ("messages", messages({"type": "search_result", "source": "http://x", "title": "t", "content": []})),
        ("messages", messages(tools=[{"name": "web_search", "input_schema": {"properties": {"type": {}}}}, {"type": "custom", "name": "x"}])),
        ("messages", messages(tools=[{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "e"}])),
        ("messages", messages(tools=[{"type": "tool_search_tool_regex_20251119", "name": "t"}], mcp_servers=[], container=None)),
        ("responses", responses({"role": "user", "content": [{"type": "input_image", "image_url": DATA}]}, store=False)),
        ("responses", {"model": "gpt-x", "input": "hi", "reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"]}),
        ("responses", responses({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]})),
        ("responses", responses({"type": "reasoning", "summary": [], "encrypted_content": "x"}, tools=[{"type": "function", "name": "f"}])),
        ("responses", responses(tools=[{"type": "custom", "name": "apply"}, {"type": "local_shell"}], previous_response_id=None)),
        ("responses", responses({"role": "user", "content": [{"type": "input_file", "file_data": "data:x;base64,aGk="}]}, background=False)),
        ("chat", chat({"type": "image_url", "image_url": {"url": DATA}}, {"type": "text", "text": "http://x"})),
        ("chat", {"model": "gpt-x", "messages": [{"role": "assistant", "content": None, "tool_calls": []}], "n": 1}),
        ("chat", chat({"type": "file", "file": {"file_data": "aGk=", "filename": "x"}}, stream_options={"include_usage": True})),
        ("gemini", gemini({"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": "x"}}, generationConfig={})),
        ("gemini", gemini({"functionCall": {"name": "f", "args": {"fileData": 1}}}, system_instruction={"parts": [{"text": "x"}]})),
        ("gemini", gemini(tools=[{"functionDeclarations": [{"name": "googleSearch"}]}], toolConfig={})),
        ("gemini", gemini({"functionResponse": {"name": "f", "response": {"fileData": {"fileUri": "x"}}}})),
    ],
)  # fmt: skip
def test_what_stays_between_agent_and_model_goes_on(form: Form, body: object) -> None:
    assert refusal(form, body) is None


DENIED: list[tuple[Form, str, dict[str, Any]]] = [
    ("messages", "web_search", messages(tools=[{"type": "web_search_20250305", "name": "web_search"}])),
    ("messages", "web_search", messages(tools=[{"Type": "web_search_20250305", "name": "web_search"}])),
    ("messages", "web_fetch", messages(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}])),
    ("messages", "code_execution", messages(tools=[{"type": "code_execution_20250825", "name": "c"}])),
    ("messages", "code_execution", messages(container="container_1")),
    ("messages", "computer_use", messages(tools=[{"type": "computer_20251124", "name": "computer"}])),
    ("messages", "mcp", messages(mcp_servers=[{"type": "url", "url": "https://evil.test", "name": "x"}])),
    ("messages", "mcp", messages(tools=[{"type": "mcp_toolset", "mcp_server_name": "x"}])),
    ("messages", "type:advisor_20260301", messages(tools=[{"type": "advisor_20260301", "name": "a"}])),
    ("messages", "url_sources", messages({"type": "image", "source": {"type": "url", "url": "https://evil.test/?q"}})),
    ("messages", "url_sources", messages({"type": "image", "\u017fource": {"type": "url", "url": "https://evil.test/?q"}})),
    ("messages", "url_sources", messages({"type": "tool_result", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]})),
    ("messages", "url_sources", messages({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}})),
    ("messages", "url_sources", messages(system=[{"type": "image", "source": {"type": "url", "url": "x"}}])),
    ("messages", "url_sources", {"model": "claude-x", "messages": {"role": "user", "content": {"type": "image", "source": {"type": "url"}}}}),
    ("messages", "files", messages({"type": "document", "source": {"type": "file", "file_id": "f"}})),
    ("messages", "files", messages({"type": "container_upload", "file_id": "f"})),
    ("messages", "web_search", messages({"type": "server_tool_use", "name": "web_search", "input": {}})),
    ("messages", "web_fetch", messages({"type": "web_fetch_tool_result", "content": []})),
    ("messages", "field:inference_geo", messages(inference_geo="us")),
    ("messages", "field:service_tier", messages(service_tier="priority")),
    ("messages", "field:Plugins", messages(Plugins=[{"id": "web"}])),
    ("responses", "web_search", responses(tools=[{"type": "web_search_preview_2025_03_11"}])),
    ("responses", "web_search", responses(tools=[{"type": "web_search"}])),
    ("responses", "file_search", responses(tools=[{"type": "file_search", "vector_store_ids": ["v"]}])),
    ("responses", "code_execution", responses(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}])),
    ("responses", "mcp", responses(tools=[{"type": "mcp", "server_url": "https://evil.test"}])),
    ("responses", "image_generation", responses(tools=[{"type": "image_generation"}])),
    ("responses", "computer_use", responses(tools=[{"type": "computer_use_preview"}])),
    ("responses", "type:shell", responses(tools=[{"type": "shell", "environment": {"type": "container_auto"}}])),
    ("responses", "url_sources", responses({"role": "user", "content": [{"type": "input_image", "image_url": "https://evil.test/?q"}]})),
    ("responses", "url_sources", responses({"type": "function_call_output", "output": [{"type": "input_image", "image_url": "HTTP://evil.test"}]})),
    ("responses", "url_sources", responses({"role": "user", "content": [{"type": "input_file", "file_url": "https://evil.test"}]})),
    ("responses", "files", responses({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]})),
    ("responses", "stored_state", responses({"type": "item_reference", "id": "rs_1"})),
    ("responses", "stored_state", responses(previous_response_id="resp_1")),
    ("responses", "stored_state", responses(conversation="conv_1")),
    ("responses", "stored_state", responses(prompt={"id": "pmpt_1"})),
    ("responses", "background", responses(background=True)),
    ("responses", "mcp", responses({"type": "mcp_call", "name": "x"})),
    ("chat", "web_search", chat(web_search_options={})),
    ("chat", "url_sources", chat({"type": "image_url", "image_url": {"url": "https://evil.test"}})),
    ("chat", "url_sources", chat({"type": "image_url", "image_url": "https://evil.test"})),
    ("chat", "files", chat({"type": "file", "file": {"file_id": "f"}})),
    ("chat", "field:plugins", chat(plugins=[{"id": "web"}])),
    ("chat", "type:retrieval", chat(tools=[{"type": "retrieval"}])),
    ("gemini", "web_search", gemini(tools=[{"googleSearch": {}}])),
    ("gemini", "web_search", gemini(tools=[{"google_search": {}}])),
    ("gemini", "web_search", gemini(tools={"functionDeclarations": [], "googleSearchRetrieval": {}})),
    ("gemini", "web_fetch", gemini(tools=[{"functionDeclarations": []}, {"url_context": {}}])),
    ("gemini", "code_execution", gemini(tools=[{"codeExecution": {}}])),
    ("gemini", "file_search", gemini(tools=[{"fileSearch": {}}])),
    ("gemini", "computer_use", gemini(tools=[{"computerUse": {}}])),
    ("gemini", "type:googleMaps", gemini(tools=[{"googleMaps": {}}])),
    ("gemini", "url_sources", gemini({"fileData": {"fileUri": "https://evil.test"}})),
    ("gemini", "url_sources", gemini({"file_data": {"file_uri": "https://evil.test"}})),
    ("gemini", "url_sources", gemini(systemInstruction={"parts": {"fileData": {"fileUri": "https://evil.test"}}})),
    ("gemini", "url_sources", gemini({"functionResponse": {"parts": [{"fileData": {"fileUri": "x"}}]}})),
    ("gemini", "stored_state", gemini(cachedContent="cachedContents/1")),
    ("gemini", "field:model", gemini(model="models/other")),
]  # fmt: skip


@pytest.mark.parametrize(("form", "feature", "body"), DENIED)
def test_what_leaves_is_refused_by_its_name_and_allowed_by_it(
    form: Form, feature: str, body: dict[str, Any]
) -> None:
    reason = refusal(form, body)
    assert reason is not None
    assert f"`allow: [{feature}]`" in reason or f'`allow: ["{feature}"]`' in reason
    others = [name for name in FEATURES if name != feature]
    assert refusal(form, body, *others) is not None
    assert refusal(form, body, feature) is None


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("messages", messages(tools=[{"type": 1, "name": "x"}])), ("messages", messages(tools=["x"])), ("messages", messages("x")),
        ("messages", messages(tools=[{"type": "custom", "Type": "web_search_20250305"}])), ("messages", messages({"source": {}})),
        ("messages", messages({"type": "image", "source": {"type": "base64", "url": "http://x"}})),
        ("messages", messages(messages_=1, Messages=2)), ("messages", {"model": "claude-x", "messages": [1]}),
        ("responses", responses(tools=[{"type": ["web_search"]}])), ("responses", responses(1)), ("responses", responses([])),
        ("responses", responses({"role": "user", "content": [{"type": "input_image", "image_url": "//evil.test"}]})),
        ("chat", chat({"type": "image_url", "image_url": ["x"]})), ("chat", chat(1)),
        ("gemini", gemini(1)), ("gemini", gemini(tools=["x"])), ("gemini", gemini(tools=[{"a": 1, "A": 2}])),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_whatever_policy_allows(
    form: Form, body: object
) -> None:
    reason = refusal(form, body, *FEATURES)
    assert reason is not None
    assert "allow:" not in reason


def test_content_within_content_has_an_end() -> None:
    inner: dict[str, Any] = {"type": "text", "text": "x"}
    for _ in range(20):
        inner = {"type": "tool_result", "content": [inner]}
    assert "content within content" in str(refusal("messages", messages(inner)))
    part: dict[str, Any] = {"text": "x"}
    for _ in range(20):
        part = {"functionResponse": {"parts": [part]}}
    assert "content within content" in str(refusal("gemini", gemini(part)))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b'"model"', b'{"model": 1}', b'{"model": "claude-a", "model": "claude-b"}', b'{"model": ""}',
        b'{"model": "claude-a", "mod\\u0065l": "claude-b"}', b'{"Model": "claude-a"}', b'{"messages": {"model": "claude-a"}}',
        b'[["model", "claude-a"]]', b"\xff\xfe{\x00}\x00", b"[" * 100_000, b'\xef\xbb\xbf{"model": "claude-a"}',
        b'{"model": "claude-a"} {}', b'{"model": "claude-a", "top_p": NaN}', b'{"model": "claude-a", "messages": [{"a": 1, "a": 2}]}',
        b'{"model": "other", "messages": []}', b'{"model": "claude-a", "MODEL": "x"}',
    ],
)  # fmt: skip
def test_a_body_that_names_no_model_or_two_or_a_key_twice_is_refused(body: bytes) -> None:
    for form in FORMS[:3]:
        assert refusal(form, body, *FEATURES) is not None


@given(form=st.sampled_from(FORMS), body=st.binary())
def test_no_bytes_make_it_raise(form: Form, body: bytes) -> None:
    refusal(form, body)


KEYS = st.sampled_from(
    ["type", "Type", "tools", "content", "source", "url", "file_id", "messages", "input", "parts", "contents", "role", "name", "image_url", "fileData", "googleSearch", "functionResponse", "system", "output", "tool_use", "container", "mcp_servers"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["text", "image", "url", "custom", "function", "web_search_20250305", "tool_result", "tool_use", "message", "http://x", DATA]
)  # fmt: skip
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(form=st.sampled_from(FORMS), tree=st.dictionaries(KEYS, TREES, max_size=5))
def test_whatever_goes_on_holds_no_feature_that_a_plain_search_finds(
    form: Form, tree: dict[str, Any]
) -> None:
    """The reference knows less, and says yes only to what is plainly harmless."""
    body = tree | {"model": "claude-x"} if form != "gemini" else tree
    if refusal(form, body) is None:
        assert not plain_tools(body)
        assert form != "messages" or not plain_sources(body)


def plain_tools(body: dict[str, Any]) -> list[object]:
    """Tools at the top that a provider would take for its own."""
    tools = body.get("tools")
    listed = tools if isinstance(tools, list) else [tools]
    ours = [t for t in listed if isinstance(t, dict)]
    kinds = [t.get(key) for t in ours for key in ("type", "Type")]
    return [k for k in kinds if isinstance(k, str) and k.startswith("web_")] + [
        t for t in ours if "googleSearch" in t and "contents" in body
    ]


def plain_sources(body: dict[str, Any]) -> list[object]:
    """Sources of the first level of every message that Anthropic would fetch."""
    blocks = [
        block
        for message in as_list(body.get("messages"))
        if isinstance(message, dict)
        for block in as_list(message.get("content"))
        if isinstance(block, dict) and block.get("type") != "tool_use"
    ]
    sources = [block.get("source") for block in blocks]
    return [s for s in sources if isinstance(s, dict) and s.get("type") == "url"]


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
