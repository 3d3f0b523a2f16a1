"""A stand-in for Slack on this machine: the Web API methods we use, with state, and Socket Mode."""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import WSCloseCode, WSMsgType, web

BOT_TOKEN = "xoxb-stand-in"
APP_TOKEN = "xapp-stand-in"
TEAM, BOT_USER, BOT_ID = "T0ACME", "U0ERRAND", "B0ERRAND"
ALL_SCOPES = (
    "app_mentions:read,channels:history,chat:write,groups:history,im:history,mpim:history,"
    "reactions:write,users:read"
)

Json = dict[str, object]
Timing = Literal["instead", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What to answer: `instead` of the call, or `after` it has taken effect."""

    status: int = 200
    code: str = ""
    retry_after: str = ""
    body: str | None = None
    """A raw body, as a proxy would send it."""
    content_type: str = "application/json"
    hang: bool = False
    when: Timing = "instead"


@dataclass(slots=True)
class SlackApi:
    """Slack's state, its answers, and the faults to come."""

    url: str = ""
    messages: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    reactions: set[tuple[str, str, str]] = field(default_factory=set)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    scopes: str | None = ALL_SCOPES
    people: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Display and real names by user id."""
    page_size: int = 200
    dead_sockets: int = 0
    """So many Socket Mode addresses lead nowhere."""
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    acks: list[str] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _addresses: int = 0
    _clock: int = 1732104000
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what tests do

    def fail(self, method: str, fault: Fault, *, times: int = 1) -> None:
        self.faults[method].extend([fault] * times)

    def say(self, channel: str, text: str, *, thread: str | None = None, **more: object) -> str:
        """Put a message there, as somebody else would."""
        self._clock += 1
        ts = f"{self._clock}.000100"
        self.messages[channel].append(
            {"type": "message", "ts": ts, "thread_ts": thread or ts, "text": text, **more}
        )
        return ts

    async def until(self, true: Callable[[], bool], *, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def envelope(self, envelope_id: str, payload: Json) -> None:
        """Deliver an event over the newest socket."""
        message = {
            "envelope_id": envelope_id,
            "type": "events_api",
            "accepts_response_payload": False,
            "payload": payload,
        }
        await self.sockets[-1].send_str(json.dumps(message))

    # --- HTTP

    async def method(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["method"]
        args = await _arguments(request)
        self.calls.append((name, args))
        fault = self.faults[name].popleft() if self.faults[name] else None
        if fault is not None and fault.when == "instead":
            return await self._failed(fault)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        answer = self._answer(name, args, token)
        self.changed.set()
        if fault is not None:
            return await self._failed(fault)
        headers = {} if self.scopes is None else {"x-oauth-scopes": self.scopes}
        return web.json_response(answer, headers=headers)

    async def _failed(self, fault: Fault) -> web.Response:
        self.changed.set()
        if fault.hang:
            await self._released.wait()
        headers = {"retry-after": fault.retry_after} if fault.retry_after else {}
        body = fault.body
        if body is None:
            body = json.dumps({"ok": False, "error": fault.code} if fault.code else {})
        return web.Response(
            status=fault.status, text=body, content_type=fault.content_type, headers=headers
        )

    def _answer(self, name: str, args: Json, token: str) -> Json:
        if token in self.revoked:
            return {"ok": False, "error": "token_revoked"}
        if token != (APP_TOKEN if name == "apps.connections.open" else BOT_TOKEN):
            return {"ok": False, "error": "invalid_auth"}
        answers: dict[str, Callable[[Json], Json]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "reactions.add": self._add,
            "reactions.remove": self._remove,
            "conversations.replies": self._replies,
            "conversations.history": self._history,
            "users.info": self._user,
            "apps.connections.open": self._open,
        }
        if name not in answers:
            return {"ok": False, "error": "unknown_method"}
        return answers[name](args)

    def _auth_test(self, args: Json) -> Json:
        return {
            "ok": True,
            "url": "https://acme.example/",
            "team": "Acme",
            "user": "errand",
            "team_id": TEAM,
            "user_id": BOT_USER,
            "bot_id": BOT_ID,
        }

    def _user(self, args: Json) -> Json:
        names = self.people.get(str(args["user"]))
        if names is None:
            return {"ok": False, "error": "user_not_found"}
        display, real = names
        profile = {"display_name": display, "real_name": real}
        return {"ok": True, "user": {"id": args["user"], "real_name": real, "profile": profile}}

    def _post(self, args: Json) -> Json:
        channel = str(args["channel"])
        if channel == "C0GONE":
            return {"ok": False, "error": "channel_not_found"}
        if (problem := blocks_problem(args)) is not None:
            return {"ok": False, "error": problem}
        more = {k: args[k] for k in ("blocks", "metadata") if k in args}
        thread = str(args["thread_ts"]) if args.get("thread_ts") else None
        ts = self.say(
            channel, str(args["text"]), thread=thread, user=BOT_USER, bot_id=BOT_ID, **more
        )
        return {"ok": True, "channel": channel, "ts": ts}

    def _update(self, args: Json) -> Json:
        if (problem := blocks_problem(args)) is not None:
            return {"ok": False, "error": problem}
        message = self._message(args, "ts")
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        message.update({k: args[k] for k in ("text", "blocks")})
        return {"ok": True, "ts": message["ts"]}

    def _add(self, args: Json) -> Json:
        reaction = (str(args["channel"]), str(args["timestamp"]), str(args["name"]))
        if self._message(args, "timestamp") is None:
            return {"ok": False, "error": "message_not_found"}
        if reaction in self.reactions:
            return {"ok": False, "error": "already_reacted"}
        self.reactions.add(reaction)
        return {"ok": True}

    def _remove(self, args: Json) -> Json:
        reaction = (str(args["channel"]), str(args["timestamp"]), str(args["name"]))
        if reaction not in self.reactions:
            return {"ok": False, "error": "no_reaction"}
        self.reactions.remove(reaction)
        return {"ok": True}

    def _replies(self, args: Json) -> Json:
        thread = [m for m in self.messages[str(args["channel"])] if m["thread_ts"] == args["ts"]]
        return self._page(thread, args) if thread else {"ok": False, "error": "thread_not_found"}

    def _history(self, args: Json) -> Json:
        roots = [m for m in self.messages[str(args["channel"])] if m["thread_ts"] == m["ts"]]
        return self._page(roots[::-1], args)

    def _page(self, messages: list[Json], args: Json) -> Json:
        start = int(str(args.get("cursor") or 0))
        size = min(int(str(args["limit"])), self.page_size)
        end = start + size
        more = str(end) if end < len(messages) else ""
        shown = [dict(m) for m in messages[start:end]]
        if args.get("include_all_metadata") not in {True, "1", "true"}:
            for message in shown:
                message.pop("metadata", None)
        return {"ok": True, "messages": shown, "response_metadata": {"next_cursor": more}}

    def _message(self, args: Json, field_name: str) -> Json | None:
        found = [m for m in self.messages[str(args["channel"])] if m["ts"] == args[field_name]]
        return found[0] if found else None

    # --- Socket Mode

    def _open(self, args: Json) -> Json:
        self._addresses += 1
        path = "nowhere" if self._addresses <= self.dead_sockets else "socket"
        address = self.url.replace("http://", "ws://").replace("/api/", f"/{path}")
        return {"ok": True, "url": f"{address}?ticket={self._addresses}"}

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(json.dumps({"type": "hello", "num_connections": 1}))
        self.sockets.append(socket)
        self.changed.set()
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.acks.append(str(json.loads(message.data)["envelope_id"]))
                self.changed.set()
        return socket

    async def close(self) -> None:
        self._released.set()
        for socket in self.sockets:
            await socket.close(code=WSCloseCode.GOING_AWAY)


async def _arguments(request: web.Request) -> Json:
    args: Json = dict(request.query)
    if request.content_type == "application/json" and (raw := await request.text()):
        args.update(json.loads(raw))
    else:
        args.update({k: v for k, v in (await request.post()).items() if isinstance(v, str)})
    return args


def blocks_problem(args: Json) -> str | None:
    """Slack's own limits for a message's blocks."""
    blocks = args.get("blocks") or []
    assert isinstance(blocks, list)
    texts = [text for block in blocks for text in _texts(block)]
    if len(blocks) > 50 or any(not 1 <= len(t) <= 3000 for t in texts):
        return "invalid_blocks"
    if any(b["type"] == "context" and len(b["elements"]) > 10 for b in blocks):
        return "invalid_blocks"
    if sum(map(len, texts)) > 12_000:
        return "msg_blocks_too_long"
    return "msg_too_long" if not 1 <= len(str(args["text"])) <= 40_000 else None


def _texts(block: Json) -> list[str]:
    elements = block.get("elements", [])
    assert isinstance(elements, list)
    found = [part.get("text") for part in [block, *elements]]
    return [str(text["text"] if isinstance(text, dict) else text) for text in found if text]


@asynccontextmanager
async def slack_api() -> AsyncIterator[SlackApi]:
    """Slack, for as long as the block lasts."""
    api = SlackApi()
    app = web.Application()
    app.router.add_route("*", "/api/{method}", api.method)
    app.router.add_get("/socket", api.socket)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    api.url = f"http://127.0.0.1:{port}/api/"
    try:
        yield api
    finally:
        await api.close()
        await runner.cleanup()
