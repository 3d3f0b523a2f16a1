"""A stand-in for Slack on this machine: the Web API methods we use, with state, and Socket Mode."""

import asyncio
import json
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import WSCloseCode, WSMsgType, web

from integrations.slack.config import SCOPES
from tests.support.slack_limits import parsed, problem_of_message, problem_of_view

BOT_TOKEN = "xoxb-stand-in"
APP_TOKEN = "xapp-stand-in"
CLIENT_SECRET = "client-secret"
TEAM, BOT_USER, BOT_ID = "T0ACME", "U0ERRAND", "B0ERRAND"
ALL_SCOPES = ",".join(SCOPES)

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
    cut: bool = False
    """The connection ends without an answer."""
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
    standings: dict[str, Json] = field(default_factory=dict)
    """What `users.info` says besides: `is_restricted`, `team_id`."""
    paces: dict[str, float] = field(default_factory=dict)
    """Seconds that must lie between two calls of a method."""
    clock: Callable[[], float] = time.monotonic
    used: list[str] = field(default_factory=list)
    """The tokens of the calls."""
    limited: list[str] = field(default_factory=list)
    """Calls that came too soon."""
    _last: dict[str, float] = field(default_factory=dict)
    rich: bool = True
    """The workspace has the newer blocks."""
    closed: dict[str, str] = field(default_factory=dict)
    """Channels that we can neither read nor write, with the code that says so."""
    keeps_time: bool = False
    """Leave out what is older than it was asked for: where messages are stamped by the test's clock."""
    places: dict[str, Json] = field(default_factory=dict)
    """What `users.conversations` says of channels, where that is special."""
    views: list[Json] = field(default_factory=list)
    """Modals that were opened."""
    homes: dict[str, Json] = field(default_factory=dict)
    sessions: dict[tuple[str, str], str] = field(default_factory=dict)
    prompts: dict[str, Json] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """What can be downloaded: its media type and bytes, by name."""
    rotates: bool = True
    """Tokens end after twelve hours."""
    issued: dict[str, str] = field(default_factory=dict)
    """Workspaces by the tokens that were given out for them."""
    refreshes: dict[str, str] = field(default_factory=dict)
    uploads: list[Json] = field(default_factory=list)
    uploaded: bytes = b""
    replies_to: dict[str, Json] = field(default_factory=dict)
    """What an envelope was acknowledged with, by its id."""
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

    async def envelope(self, envelope_id: str, payload: Json, *, kind: str = "events_api") -> None:
        """Deliver an event, `interactive` or `slash_commands`, over the newest socket."""
        message = {
            "envelope_id": envelope_id,
            "type": kind,
            "accepts_response_payload": kind != "events_api",
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
            return await self._failed(fault, request)
        if (wait := self._too_soon(name)) > 0:
            limited = Fault(status=429, code="ratelimited", retry_after=str(math.ceil(wait)))
            return await self._failed(limited, request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.used.append(token)
        answer = self._answer(name, args, token)
        self.changed.set()
        if fault is not None:
            return await self._failed(fault, request)
        headers = {} if self.scopes is None else {"x-oauth-scopes": self.scopes}
        return web.json_response(answer, headers=headers)

    def _too_soon(self, name: str) -> float:
        now, pace = self.clock(), self.paces.get(name, 0.0)
        wait = self._last.get(name, float("-inf")) + pace - now
        if wait > 0:
            self.limited.append(name)
        else:
            self._last[name] = now
        return wait

    async def _failed(self, fault: Fault, request: web.Request) -> web.Response:
        self.changed.set()
        if fault.cut and request.transport is not None:
            request.transport.abort()
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
        if name == "oauth.v2.access":
            return self._granted(args)
        if token in self.revoked:
            return {"ok": False, "error": "token_revoked"}
        known = {APP_TOKEN} if name == "apps.connections.open" else {BOT_TOKEN, *self.issued}
        if token not in known:
            return {"ok": False, "error": "invalid_auth"}
        answers: dict[str, Callable[[Json], Json]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "reactions.add": self._add,
            "reactions.remove": self._remove,
            "conversations.replies": self._replies,
            "conversations.history": self._history,
            "users.conversations": self._conversations,
            "users.info": self._user,
            "apps.connections.open": self._open,
            "views.open": self._view,
            "views.publish": self._home,
            "conversations.open": self._direct,
            "assistant.threads.setSuggestedPrompts": self._prompt,
            "agents.sessions.setStatus": self._session,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._uploaded,
        }
        if name not in answers:
            return {"ok": False, "error": "unknown_method"}
        return answers[name](args)

    def _granted(self, args: Json) -> Json:
        """Codes name the workspace that they are for; a refresh token works once."""
        if args["client_secret"] != CLIENT_SECRET:
            return {"ok": False, "error": "bad_client_secret"}
        if args.get("grant_type") == "refresh_token":
            team = self.refreshes.pop(str(args["refresh_token"]), None)
        else:
            team = str(args["code"]) if str(args["code"]).startswith("T") else None
        if team is None:
            return {"ok": False, "error": "invalid_code"}
        number = len(self.issued) + 1
        token, refresh = f"xoxe.xoxb-{team}-{number}", f"xoxe-{number}"
        self.issued[token] = team
        granted: Json = {
            "ok": True, "access_token": token, "token_type": "bot", "scope": ALL_SCOPES,
            "bot_user_id": BOT_USER, "app_id": "A0ERRAND", "team": {"id": team, "name": f"Team {team}"},
            "enterprise": None, "authed_user": {"id": "U0DANA"}, "is_enterprise_install": False,
        }  # fmt: skip
        if self.rotates:
            self.refreshes[refresh] = team
            granted |= {"refresh_token": refresh, "expires_in": 43200}
        return granted

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
        more = self.standings.get(str(args["user"]), {})
        return {
            "ok": True,
            "user": {"id": args["user"], "real_name": real, "profile": profile, **more},
        }

    def _view(self, args: Json) -> Json:
        view = parsed(args["view"])
        if (problem := problem_of_view(view)) is not None:
            return {"ok": False, "error": problem}
        if args["trigger_id"] == "expired":
            return {"ok": False, "error": "expired_trigger_id"}
        self.views.append(view)
        return {"ok": True, "view": {"id": f"V{len(self.views)}", **view}}

    def _home(self, args: Json) -> Json:
        view = parsed(args["view"])
        if (problem := problem_of_view(view)) is not None:
            return {"ok": False, "error": problem}
        self.homes[str(args["user_id"])] = view
        return {"ok": True}

    def _direct(self, args: Json) -> Json:
        return {"ok": True, "channel": {"id": f"D{str(args['users'])[1:]}"}}

    def _prompt(self, args: Json) -> Json:
        self.prompts[str(args["channel_id"])] = args
        return {"ok": True}

    def _upload_url(self, args: Json) -> Json:
        return {"ok": True, "file_id": "F1", "upload_url": self.url.replace("/api/", "/upload")}

    def _uploaded(self, args: Json) -> Json:
        self.uploads.append(args)
        return {"ok": True, "files": [{"id": "F1"}]}

    async def upload(self, request: web.Request) -> web.Response:
        self.uploaded = await request.read()
        return web.Response(text="OK")

    def _session(self, args: Json) -> Json:
        self.sessions[str(args["channel_id"]), str(args["thread_ts"])] = str(args["status"])
        return {"ok": True}

    def _post(self, args: Json) -> Json:
        channel = str(args["channel"])
        if channel == "C0GONE":
            return {"ok": False, "error": "channel_not_found"}
        if (problem := self._refused(args)) is not None:
            return {"ok": False, "error": problem}
        more = {k: args[k] for k in ("blocks", "metadata") if k in args}
        thread = str(args["thread_ts"]) if args.get("thread_ts") else None
        ts = self.say(
            channel, str(args["text"]), thread=thread, user=BOT_USER, bot_id=BOT_ID, **more
        )
        return {"ok": True, "channel": channel, "ts": ts}

    def _update(self, args: Json) -> Json:
        if (problem := self._refused(args)) is not None:
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

    def _refused(self, args: Json) -> str | None:
        if (code := self.closed.get(str(args["channel"]))) is not None:
            return code
        blocks = parsed(args.get("blocks") or "[]")
        return problem_of_message(str(args["text"]), blocks, rich=self.rich)

    def _replies(self, args: Json) -> Json:
        """A thread by its root; a single message by the ts of a reply."""
        if (code := self.closed.get(str(args["channel"]))) is not None:
            return {"ok": False, "error": code}
        here = self.messages[str(args["channel"])]
        root, oldest = str(args["ts"]), self._oldest(args)
        thread = [m for m in here if m["thread_ts"] == root]
        thread = [m for m in thread if m["ts"] == root or float(str(m["ts"])) >= oldest]
        thread = thread or [m for m in here if m["ts"] == args["ts"]]
        return self._page(thread, args) if thread else {"ok": False, "error": "thread_not_found"}

    def _history(self, args: Json) -> Json:
        if (code := self.closed.get(str(args["channel"]))) is not None:
            return {"ok": False, "error": code}
        here, oldest = self.messages[str(args["channel"])], self._oldest(args)
        last = {
            m["thread_ts"]: {"latest_reply": m["ts"]} for m in here if m["ts"] != m["thread_ts"]
        }
        roots = [m | last.get(m["ts"], {}) for m in here if m["thread_ts"] == m["ts"]]
        return self._page([m for m in roots if float(str(m["ts"])) >= oldest][::-1], args)

    def _oldest(self, args: Json) -> float:
        return float(str(args.get("oldest") or 0)) if self.keeps_time else 0

    def _conversations(self, args: Json) -> Json:
        """Those in which something was said, and those that were put there."""
        known = {name: {"id": name, "is_im": name.startswith("D")} for name in self.messages}
        found = [*(known | self.places).values()]
        return {"ok": True, "channels": found, "response_metadata": {"next_cursor": ""}}

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
                acknowledged = json.loads(message.data)
                self.acks.append(str(acknowledged["envelope_id"]))
                self.replies_to[self.acks[-1]] = acknowledged.get("payload") or {}
                self.changed.set()
        return socket

    async def file(self, request: web.Request) -> web.Response:
        """With the bot's token only, as Slack does it: others get a page to log in."""
        self.calls.append(("file", {"name": request.match_info["name"]}))
        if request.headers.get("authorization") != f"Bearer {BOT_TOKEN}":
            return web.Response(text="<html>log in</html>", content_type="text/html")
        kind, body = self.files[request.match_info["name"]]
        return web.Response(body=body, content_type=kind)

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


@asynccontextmanager
async def slack_api() -> AsyncIterator[SlackApi]:
    """Slack, for as long as the block lasts."""
    api = SlackApi()
    app = web.Application()
    app.router.add_route("*", "/api/{method}", api.method)
    app.router.add_get("/socket", api.socket)
    app.router.add_get("/files/{name}", api.file)
    app.router.add_post("/upload", api.upload)
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
