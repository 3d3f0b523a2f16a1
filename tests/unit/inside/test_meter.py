"""What a call used, as its provider tells it; the same however the answer is cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.dialects import Form
from policies.prices import Tokens
from runner.inside.meter import Meter


def sse(*events: Any, names: bool = True) -> bytes:
    lines = [
        (f"event: {e['type']}\n" if names and isinstance(e, dict) and "type" in e else "")
        + f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n"
        for e in events
    ]
    return "".join(lines).encode()


MESSAGES = sse(
    {"type": "message_start", "message": {"usage": {
        "input_tokens": 100, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello world"}},
    {"type": "ping"},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
)  # fmt: skip
CHAT = sse(
    {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "hello"}}], "usage": None},
    {"object": "chat.completion.chunk", "choices": [], "usage": {
        "prompt_tokens": 120, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 20}}},
    "[DONE]",
)  # fmt: skip
RESPONSES = sse(
    {"type": "response.created", "response": {"usage": None}},
    {"type": "response.output_text.delta", "delta": "hello"},
    {"type": "response.completed", "response": {"usage": {
        "input_tokens": 120, "output_tokens": 30, "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 10}}}},
)  # fmt: skip
GEMINI = sse(
    {"candidates": [{"content": {"parts": [{"text": "he"}]}}], "usageMetadata": {"promptTokenCount": 120}},
    {"candidates": [{"content": {"parts": [{"text": "llo"}]}, "finishReason": "STOP"}], "usageMetadata": {
        "promptTokenCount": 120, "cachedContentTokenCount": 20, "candidatesTokenCount": 10, "thoughtsTokenCount": 5}},
)  # fmt: skip
STREAMS: list[tuple[Form, bytes, Tokens]] = [
    ("messages", MESSAGES, Tokens(input=100, output=20, cache_read=2000, cache_write=200, cache_write_hour=100)),
    ("chat", CHAT, Tokens(input=100, output=30, cache_read=20)),
    ("responses", RESPONSES, Tokens(input=90, output=30, cache_read=20, cache_write=10)),
    ("gemini", GEMINI, Tokens(input=100, output=15, cache_read=20)),
]  # fmt: skip


def metered(form: Form, *parts: bytes, stream: bool = True, asked: int = 300) -> Meter:
    meter = Meter(form, stream=stream, asked=asked)
    for part in parts:
        meter.feed(part)
    meter.end()
    return meter


@pytest.mark.parametrize(("form", "data", "tokens"), STREAMS)
def test_a_stream_tells_what_the_call_used(form: Form, data: bytes, tokens: Tokens) -> None:
    meter = metered(form, data)
    assert (meter.tokens, meter.final) == (tokens, True)


@pytest.mark.parametrize(("form", "data", "tokens"), STREAMS)
def test_it_is_known_before_the_stream_ends(form: Form, data: bytes, tokens: Tokens) -> None:
    meter = Meter(form, stream=True, asked=0)
    meter.feed(data)
    assert (meter.tokens, meter.final) == (tokens, True)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_lines_may_end_in_either_way(end: str) -> None:
    assert metered("messages", MESSAGES.replace(b"\n", end.encode())).tokens == STREAMS[0][2]


@given(
    which=st.sampled_from(STREAMS),
    cuts=st.lists(st.integers(0, 2000)),
    kept=st.integers(0, 2000),
    stream=st.booleans(),
)
def test_however_a_stream_is_cut_the_totals_are_the_same(
    which: tuple[Form, bytes, Tokens],
    cuts: list[int],
    kept: int,
    stream: bool,  # noqa: FBT001 - drawn
) -> None:
    form, data, _ = which
    data = data[:kept] if kept % 2 else data
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(places)]
    whole = metered(form, data, stream=stream)
    cut = metered(form, *parts, stream=stream)
    assert (cut.tokens, cut.final) == (whole.tokens, whole.final)


@given(form=st.sampled_from(["messages", "responses", "chat", "gemini"]), data=st.binary(), stream=st.booleans())  # fmt: skip
def test_no_bytes_make_it_raise(form: Form, data: bytes, stream: bool) -> None:  # noqa: FBT001 - drawn
    tokens = metered(form, data, stream=stream).tokens
    assert min(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write) >= 0


@pytest.mark.parametrize(
    ("form", "answer", "tokens"),
    [
        ("messages", {"type": "message", "usage": {"input_tokens": 10, "output_tokens": 5}}, Tokens(input=10, output=5)),
        ("chat", {"object": "chat.completion", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}, Tokens(input=10, output=5)),
        ("responses", {"object": "response", "usage": {"input_tokens": 10, "output_tokens": 5}}, Tokens(input=10, output=5)),
        ("gemini", {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5}},
         Tokens(input=10, output=5)),
    ],
)  # fmt: skip
def test_an_answer_in_one_piece_tells_it_too(
    form: Form, answer: dict[str, Any], tokens: Tokens
) -> None:
    meter = metered(form, json.dumps(answer).encode(), stream=False)
    assert (meter.tokens, meter.final) == (tokens, True)


def test_a_stream_that_breaks_off_is_counted_by_what_came() -> None:
    broken = MESSAGES[: MESSAGES.index(b"event: message_delta")]
    meter = metered("messages", broken)
    assert not meter.final
    assert meter.tokens.input == 100
    assert meter.tokens.output == 4  # eleven characters


def test_an_answer_that_never_says_is_counted_by_its_length_and_that_of_the_request() -> None:
    silent = sse({"choices": [{"delta": {"content": "x" * 30}}]}, "[DONE]")
    assert metered("chat", silent, asked=300).tokens == Tokens(input=100, output=10)


@pytest.mark.parametrize(
    "usage", [None, [], "x", {"input_tokens": "9"}, {"input_tokens": -5}, {"input_tokens": True}]
)
def test_odd_numbers_count_as_none(usage: object) -> None:
    told = sse({"type": "message_delta", "usage": usage})
    assert metered("messages", told, asked=0).tokens == Tokens()
