"""A stand-in for Anthropic's Messages API that says what a test wrote down, as a stream if it is asked for one."""

import contextlib
import ipaddress
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker
from typing_extensions import override

from tests.support.ports import free_port

_HOLD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """The model wants a tool to be run."""

    tool: str
    input: Mapping[str, Any]


Block = Text | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]

    @property
    def results(self) -> str:
        """What tools gave, as the agent told in its last message."""
        last = self.body["messages"][-1]["content"]
        blocks = last if isinstance(last, list) else []
        return json.dumps([b.get("content") for b in blocks if b.get("type") == "tool_result"])


@dataclass(slots=True, kw_only=True)
class MessagesApi:
    """Answers are given to requests with tools, in their order; what is asked beside them gets a word or two."""

    host: str
    port: int
    answers: deque[tuple[Block, ...]] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    """While it is not set, requests wait."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def answer(self, body: Mapping[str, Any]) -> tuple[Block, ...]:
        if not body.get("tools"):
            return (Text("A title"),)
        return self.answers.popleft() if self.answers else (Text("There is nothing left to say."),)


@contextlib.contextmanager
def messages_api(host: str) -> Iterator[MessagesApi]:
    api = MessagesApi(host=host, port=free_port(host))
    api.go_on.set()

    class Conversation(_Conversation):
        stub = api

    server = ThreadingHTTPServer((host, api.port), Conversation)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def bridge_address() -> str:
    """This host as containers on Docker's default network see it."""
    with contextlib.closing(docker.from_env()) as client:
        [config, *_] = client.api.inspect_network("bridge")["IPAM"]["Config"]
    first = next(ipaddress.ip_network(config["Subnet"]).hosts())
    return str(config.get("Gateway") or first)


class _Conversation(BaseHTTPRequestHandler):
    stub: MessagesApi

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what was asked."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.stub.asked.append(Asked(path=self.path, headers=headers, body=body))
        self.stub.go_on.wait(_HOLD_SECONDS)
        if "count_tokens" in self.path:
            self._whole({"input_tokens": 10})
            return
        blocks = self.stub.answer(body)
        if body.get("stream"):
            self._stream(body["model"], blocks)
        else:
            self._whole(_message(body["model"]) | _ending(blocks) | {"content": _contents(blocks)})

    def _whole(self, answer: Mapping[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, model: str, blocks: tuple[Block, ...]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self._event("message_start", message=_message(model) | {"content": []})
        for index, block in enumerate(blocks):
            self._event("content_block_start", index=index, content_block=_opened(block))
            self._event("content_block_delta", index=index, delta=_delta(block))
            self._event("content_block_stop", index=index)
        self._event("message_delta", delta=_ending(blocks), usage={"output_tokens": 20})
        self._event("message_stop")

    def _event(self, kind: str, **fields: Any) -> None:
        data = json.dumps({"type": kind, **fields})
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
        self.wfile.flush()


def _message(model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 1},
    }


def _ending(blocks: tuple[Block, ...]) -> dict[str, Any]:
    calls = any(isinstance(block, Call) for block in blocks)
    return {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}


def _contents(blocks: tuple[Block, ...]) -> list[dict[str, Any]]:
    return [
        _opened(block) | ({"text": block.text} if isinstance(block, Text) else {"input": block.input})
        for block in blocks
    ]  # fmt: skip


def _opened(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": f"toolu_{id(block):x}", "name": block.tool, "input": {}}


def _delta(block: Block) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text_delta", "text": block.text}
    return {"type": "input_json_delta", "partial_json": json.dumps(block.input)}
