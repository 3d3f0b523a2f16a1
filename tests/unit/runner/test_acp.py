"""The client's side of the Agent Client Protocol."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.acp import (
    OUTPUT_CHARACTERS,
    AcpClient,
    Initialized,
    Message,
    Refused,
    SessionOpened,
    TurnEnded,
)
from runner.errors import AgentProtocolError
from runner.pictures import Shown
from runner.protocol import (
    Plan,
    PlanEntry,
    Question,
    QuestionClosed,
    Said,
    StepStatus,
    ToolCall,
    Usage,
)
from runner.spoken import SAID_CHARACTERS
from tests.support.agent_container import chunk, elicitation, update


@pytest.fixture
def client() -> AcpClient:
    return opened()


def opened() -> AcpClient:
    made = AcpClient()
    made.initialize()
    assert made.feed({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": 1}}) == [
        Initialized()
    ]
    made.new_session("/workspace")
    assert made.feed({"jsonrpc": "2.0", "id": 2, "result": {"sessionId": "s1"}}) == [
        SessionOpened()
    ]
    made.prompt(["fix it"])
    return made


def test_we_offer_neither_files_nor_terminals() -> None:
    params = AcpClient().initialize().msg["params"]
    assert params["clientCapabilities"]["fs"] == {"readTextFile": False, "writeTextFile": False}
    assert params["clientCapabilities"]["terminal"] is False


def test_requests_have_the_same_ids_every_time() -> None:
    client = AcpClient()
    keys = [client.initialize().key, client.new_session("/workspace").key, client.prompt(["x"]).key]
    assert keys == ["acp:1", "acp:2", "acp:3"]


def test_chunks_are_one_message_until_the_turn_ends(client: AcpClient) -> None:
    assert client.feed(chunk("Hello, ")) == []
    assert client.feed(chunk("world.")) == []
    ended = client.feed({"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}})
    assert ended == [Said(text="Hello, world."), TurnEnded("end_turn")]


def test_another_message_id_begins_another_message(client: AcpClient) -> None:
    client.feed(chunk("one", messageId="m1"))
    assert client.feed(chunk("two", messageId="m2")) == [Said(text="one")]


def test_a_long_message_is_cut(client: AcpClient) -> None:
    for _ in range(30):
        client.feed(chunk("x" * 1000))
    [said] = client.feed(update("agent_thought_chunk", content={"type": "text", "text": "hm"}))
    assert isinstance(said, Said)
    assert len(said.text) == SAID_CHARACTERS
    assert said.text.endswith("…")


def test_a_plan_replaces_the_plan(client: AcpClient) -> None:
    entries = [{"content": "look", "priority": "high", "status": "in_progress"}]
    assert client.feed(update("plan", entries=entries)) == [
        Plan(entries=(PlanEntry(title="look", status=StepStatus.RUNNING),))
    ]


def test_a_tool_call_keeps_what_an_update_does_not_say(client: AcpClient) -> None:
    client.feed(update("tool_call", toolCallId="t1", title="Edit a.py", status="in_progress"))
    text = {"type": "content", "content": {"type": "text", "text": "y" * 5000}}
    [call] = client.feed(
        update("tool_call_update", toolCallId="t1", status="failed", content=[text])
    )
    assert isinstance(call, ToolCall)
    assert (call.title, call.status) == ("Edit a.py", StepStatus.FAILED)
    assert len(call.output) == OUTPUT_CHARACTERS


def test_an_update_that_changes_nothing_is_no_event(client: AcpClient) -> None:
    start = update("tool_call", toolCallId="t1", title="Edit", status="in_progress")
    assert len(client.feed(start)) == 1
    assert client.feed(update("tool_call_update", toolCallId="t1")) == []


def permission(kinds: list[str], request_id: Any = 5) -> dict[str, Any]:
    options = [{"optionId": f"o-{kind}", "name": kind, "kind": kind} for kind in kinds]
    params = {"sessionId": "s1", "toolCall": {"toolCallId": "t1"}, "options": options}
    method = "session/request_permission"
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (["reject_once", "allow_always", "allow_once"], "o-allow_once"),
        (["reject_always", "allow_always"], "o-allow_always"),
    ],
)
def test_permission_is_given_for_as_short_as_offered(
    client: AcpClient, kinds: list[str], chosen: str
) -> None:
    reply = client.feed(permission(kinds))[-1]
    outcome = {"outcome": {"outcome": "selected", "optionId": chosen}}
    assert reply == Message(key="acp:r5", msg={"jsonrpc": "2.0", "id": 5, "result": outcome})


def test_after_a_cancel_permission_is_cancelled(client: AcpClient) -> None:
    assert client.cancel().msg["method"] == "session/cancel"
    reply = client.feed(permission(["allow_once"]))[-1]
    assert isinstance(reply, Message)
    assert reply.msg["result"] == {"outcome": {"outcome": "cancelled"}}


def test_the_key_of_a_reply_tells_number_from_text_and_stays_short(client: AcpClient) -> None:
    ids: list[Any] = [1, "1", "x" * 10_000]
    replies = [client.feed(permission(["allow_once"], i))[-1] for i in ids]
    keys = [reply.key for reply in replies if isinstance(reply, Message)]
    assert len(set(keys)) == 3
    assert max(map(len, keys)) <= 200


def prompted(*, sees: bool) -> list[dict[str, Any]]:
    """The blocks of the first prompt and of a second one."""
    client = AcpClient([Shown(kind="image/png", content=b"\x89PNG")])
    client.initialize()
    offered = {"protocolVersion": 1, "agentCapabilities": {"promptCapabilities": {"image": sees}}}
    client.feed({"jsonrpc": "2.0", "id": 1, "result": offered})
    client.new_session("/workspace")
    client.feed({"jsonrpc": "2.0", "id": 2, "result": {"sessionId": "s1"}})
    return [b for _ in range(2) for b in client.prompt(["fix it"]).msg["params"]["prompt"]]


def test_pictures_go_with_the_first_prompt_to_an_agent_that_can_see() -> None:
    text = {"type": "text", "text": "fix it"}
    picture = {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}
    assert prompted(sees=True) == [text, picture, text]
    assert prompted(sees=False) == [text, text]


def test_we_offer_to_ask_people() -> None:
    assert AcpClient().initialize().msg["params"]["clientCapabilities"]["elicitation"] == {
        "form": {}
    }


def test_a_question_waits_for_its_answer(client: AcpClient) -> None:
    client.feed(chunk("I wonder."))
    said, question = client.feed(elicitation("Which?", ["a", "b"]))
    assert said == Said(text="I wonder.")
    assert question == Question(id="7.0.0", text="Which?", options=("a", "b"))
    assert client.answer("7.0.0", "b") == [
        QuestionClosed(id="7.0.0", answered=True),
        Message(
            key="acp:r7",
            msg={
                "jsonrpc": "2.0",
                "id": 7,
                "result": {"action": "accept", "content": {"answer": "b"}},
            },
        ),
    ]
    assert client.answer("7.0.0", "b") is None


def test_questions_at_once_are_asked_one_after_the_other(client: AcpClient) -> None:
    assert len(client.feed(elicitation("First?", ["a"], request_id=7))) == 1
    assert client.feed(elicitation("Second?", ["b"], request_id="x")) == []
    assert client.answer('"x".0.0', "b") is None
    outcomes = client.answer("7.0.0", "a")
    assert outcomes is not None
    assert outcomes[-1] == Question(id='"x".0.0', text="Second?", options=("b",))


def test_questions_that_nobody_will_answer_are_cancelled(client: AcpClient) -> None:
    client.feed(elicitation("First?", ["a"], request_id=7))
    client.feed(elicitation("Second?", ["b"], request_id=8))
    closed, *replies = client.drop_questions()
    assert closed == QuestionClosed(id="7.0.0", answered=False)
    assert [reply.msg["result"] for reply in replies if isinstance(reply, Message)] == [
        {"action": "cancel"}
    ] * 2
    assert client.drop_questions() == []


def test_after_a_cancel_nobody_is_asked(client: AcpClient) -> None:
    client.cancel()
    [reply] = client.feed(elicitation("Which?", ["a"]))
    assert isinstance(reply, Message)
    assert reply.msg["result"] == {"action": "cancel"}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {
            "mode": "url",
            "sessionId": "s1",
            "message": "m",
            "elicitationId": "e",
            "url": "http://x/",
        },
    ],
)
def test_what_cannot_be_asked_is_refused_and_the_turn_goes_on(
    client: AcpClient, params: dict[str, Any]
) -> None:
    [reply] = client.feed(
        {"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": params}
    )
    assert isinstance(reply, Message)
    assert reply.msg["error"]["code"] == -32602


def test_what_we_do_not_offer_is_answered_so(client: AcpClient) -> None:
    [reply] = client.feed({"jsonrpc": "2.0", "id": 9, "method": "fs/read_text_file", "params": {}})
    assert isinstance(reply, Message)
    assert reply.msg["error"]["code"] == -32601


@pytest.mark.parametrize(
    "msg",
    [
        update("some_new_thing", what=1),
        {"jsonrpc": "2.0", "method": "_vendor/note", "params": {}},
        {"jsonrpc": "2.0", "id": 99, "result": {}},
    ],
)
def test_what_we_do_not_know_is_ignored(client: AcpClient, msg: dict[str, Any]) -> None:
    assert client.feed(msg) == []


@pytest.mark.parametrize(
    "msg",
    [
        update("tool_call", toolCallId=1),
        update("agent_message_chunk", content="text"),
        {"jsonrpc": "2.0", "method": "session/update", "params": {}},
        {"jsonrpc": "2.0", "method": "session/update", "params": []} | {"params": [1]},
        {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "bored"}},
        {"jsonrpc": "2.0", "id": {}, "method": "x"},
        {"jsonrpc": "2.0"},
    ],
)
def test_what_is_malformed_breaks_the_protocol(client: AcpClient, msg: dict[str, Any]) -> None:
    with pytest.raises(AgentProtocolError):
        client.feed(msg)


def test_another_version_breaks_the_protocol() -> None:
    client = AcpClient()
    client.initialize()
    with pytest.raises(AgentProtocolError, match="version 2"):
        client.feed({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": 2}})


def test_an_error_keeps_its_words_and_its_tail(client: AcpClient) -> None:
    error = {"code": 1, "message": "no", "data": {"details": "limit", "tail": "last line"}}
    assert client.feed({"jsonrpc": "2.0", "id": 3, "error": error}) == [
        Refused("session/prompt", "no: limit", "last line")
    ]


def test_usage_is_summed_over_turns(client: AcpClient) -> None:
    usage = {"totalTokens": 3, "inputTokens": 2, "outputTokens": 1}
    result = {"stopReason": "end_turn", "usage": usage}
    client.feed({"jsonrpc": "2.0", "id": 3, "result": result})
    client.prompt(["more"])
    cost = client.feed(
        update("usage_update", used=1, size=9, cost={"amount": 0.5, "currency": "USD"})
    )
    assert cost == [Usage(input_tokens=2, output_tokens=1, cost_usd=0.5)]
    again = client.feed({"jsonrpc": "2.0", "id": 4, "result": result})
    assert again[0] == Usage(input_tokens=4, output_tokens=2, cost_usd=0.5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
NAMES = [
    "jsonrpc",
    "id",
    "method",
    "params",
    "result",
    "error",
    "update",
    "sessionUpdate",
    "content",
]
WORDS = ["session/update", "session/request_permission", "plan", "tool_call", "agent_message_chunk"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(WORDS)), JSON)
def test_no_message_raises_anything_undeclared(msg: dict[str, Any], params: Any) -> None:
    for candidate in (msg, msg | {"method": "session/update", "params": {"update": params}}):
        with contextlib.suppress(AgentProtocolError):
            opened().feed(candidate)
