"""The built-in agent: runs a recipe step by step and says so in the Agent Client Protocol, version 1. No model."""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from runner.inside.asking import Waiting, answer_of, form
from runner.inside.errors import RecipeError, RpcError
from runner.inside.recipe import Step, find_recipe, split
from runner.inside.shell import Shell
from runner.inside.wire import bounded_lines

PROTOCOL_VERSION = 1
_LINE_BYTES = 4 * 1024 * 1024
_UPDATE_SECONDS = 1.0
_COMMAND_CHARACTERS = 200
_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_FAILED = -32000
_Json = dict[str, Any]


@dataclass(slots=True)
class Session:
    """One conversation; at most one turn runs in it."""

    id: str
    cwd: Path
    cancelled: threading.Event = field(default_factory=threading.Event)
    shell: Shell | None = None
    busy: bool = False
    calls: int = 0


class Client:
    """Where the answers go. Safe from many threads."""

    def __init__(self, out: IO[bytes]) -> None:
        self.can_ask = False
        """Whether there are people to ask, as the client said."""
        self._out = out
        self._lock = threading.Lock()
        self._waiting = Waiting()

    def _write(self, message: _Json) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode("ascii")
        with self._lock:
            self._out.write(line + b"\n")
            self._out.flush()

    def result(self, ident: Any, result: _Json) -> None:
        self._write({"id": ident, "result": result})

    def error(self, ident: Any, body: _Json) -> None:
        self._write({"id": ident, "error": body})

    def ask(self, session: Session, question: str, options: list[str]) -> str | None:
        """Wait for people; None where nobody answers."""
        if not self.can_ask or session.cancelled.is_set():
            return None
        ident, box = self._waiting.begin()
        params = form(session.id, question, options)
        self._write({"id": ident, "method": "elicitation/create", "params": params})
        return answer_of(box.get())

    def answered(self, message: _Json) -> None:
        self._waiting.settle(message)

    def give_up(self) -> None:
        """Nobody will answer what was asked."""
        self._waiting.give_up()

    def update(self, session: Session, update: _Json) -> None:
        params = {"sessionId": session.id, "update": update}
        self._write({"method": "session/update", "params": params})


class Turn:
    """One prompt, from its recipe to its end."""

    def __init__(self, *, session: Session, client: Client) -> None:
        self._session = session
        self._client = client
        self._updated_at = 0.0

    def run(self, prompt: str) -> _Json:
        """The result of `session/prompt`. Raises RpcError, RecipeError."""
        steps = split(find_recipe(prompt, cwd=self._session.cwd))
        try:
            shell = Shell(self._session.cwd)
        except OSError as exc:
            raise RpcError(_FAILED, f"bash cannot be started: {exc}") from exc
        self._session.shell = shell
        try:
            stopped = self._session.cancelled.is_set()
            return {"stopReason": "cancelled"} if stopped else self._steps(steps, shell)
        finally:
            self._session.shell = None
            shell.close()

    def _steps(self, steps: Sequence[Step], shell: Shell) -> _Json:
        for number, step in enumerate(steps):
            self._plan(steps, done=number)
            call = self._begin(step)
            status, tail, alive = shell.run(
                step.command,
                said=partial(self._grow, call),
                ask=partial(self._client.ask, self._session),
            )
            ended = "completed" if status == 0 else "failed"
            self._tell(call, tail, status=ended)
            if self._session.cancelled.is_set():
                return {"stopReason": "cancelled"}
            if status:
                raise _failure(
                    step, place=f"step {number + 1} of {len(steps)}", status=status, tail=tail
                )
            if not alive:
                return self._end(steps, done=number + 1)
        return self._end(steps, done=len(steps))

    def _end(self, steps: Sequence[Step], *, done: int) -> _Json:
        self._plan(steps, done=len(steps), running=False)
        commands = "1 command" if done == 1 else f"{done} commands"
        text = (
            f"Ran {commands}."
            if done == len(steps)
            else f"Ran {commands}; the recipe ended itself."
        )
        content = {"type": "text", "text": text}
        self._client.update(
            self._session, {"sessionUpdate": "agent_message_chunk", "content": content}
        )
        return {"stopReason": "end_turn"}

    def _plan(self, steps: Sequence[Step], *, done: int, running: bool = True) -> None:
        states = ["completed"] * done + ["in_progress"] * running + ["pending"] * len(steps)
        entries = [
            {"content": step.title, "priority": "medium", "status": state}
            for step, state in zip(steps, states, strict=False)
        ]
        self._client.update(self._session, {"sessionUpdate": "plan", "entries": entries})

    def _begin(self, step: Step) -> str:
        self._session.calls += 1
        call = f"{self._session.id}-{self._session.calls}"
        self._client.update(
            self._session,
            {
                "sessionUpdate": "tool_call",
                "toolCallId": call,
                "title": step.title,
                "kind": "execute",
                "status": "in_progress",
                "rawInput": {"command": step.command},
            },
        )
        return call

    def _grow(self, call: str, text: str) -> None:
        now = time.monotonic()
        if now - self._updated_at >= _UPDATE_SECONDS:
            self._updated_at = now
            self._tell(call, text, status="in_progress")

    def _tell(self, call: str, text: str, *, status: str) -> None:
        content = [{"type": "content", "content": {"type": "text", "text": text}}] if text else []
        self._client.update(
            self._session,
            {
                "sessionUpdate": "tool_call_update",
                "toolCallId": call,
                "status": status,
                "content": content,
            },
        )


def _failure(step: Step, *, place: str, status: int, tail: str) -> RpcError:
    command = step.command.strip()
    if len(command) > _COMMAND_CHARACTERS:
        command = command[: _COMMAND_CHARACTERS - 1] + "…"
    return RpcError(_FAILED, f"{place} failed with exit status {status}: {command}", tail)


class ScriptAgent:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._sessions: dict[str, Session] = {}
        self._turns: list[threading.Thread] = []

    def serve(self, stream: IO[bytes]) -> None:
        """Until the client goes; a turn that runs then is cancelled."""
        for line, too_long in bounded_lines(stream, _LINE_BYTES):
            if line.strip():
                self._take(b"" if too_long else line)
        for session in self._sessions.values():
            _cancel(session)
        self._client.give_up()
        for turn in self._turns:
            turn.join()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._client.error(None, {"code": _PARSE_ERROR, "message": "this is no JSON"})
            return
        method = message.get("method") if isinstance(message, dict) else None
        if (
            isinstance(message, dict)
            and method is None
            and ("result" in message or "error" in message)
        ):
            self._client.answered(message)
            return
        if not isinstance(method, str):
            self._client.error(None, {"code": _INVALID_REQUEST, "message": "this is no request"})
            return
        params = message.get("params") or {}
        try:
            self._call(method, params if isinstance(params, dict) else {}, message)
        except RpcError as exc:
            if "id" in message:
                self._client.error(message["id"], _body(exc))

    def _call(self, method: str, params: _Json, message: Mapping[str, Any]) -> None:
        match method:
            case "initialize":
                self._client.can_ask = _can_ask(params)
                self._client.result(message.get("id"), _welcome())
            case "session/new":
                self._client.result(message.get("id"), self._open(params))
            case "session/prompt":
                self._prompt(params, message.get("id"))
            case "session/cancel":
                _cancel(self._session(params))
                self._client.give_up()
            case _:
                raise RpcError(_NO_METHOD, f"there is no method {method}")

    def _open(self, params: _Json) -> _Json:
        cwd = params.get("cwd")
        if not isinstance(cwd, str) or not Path(cwd).is_dir():
            raise RpcError(_INVALID_PARAMS, "cwd is no directory")
        session = Session(id=f"script-{len(self._sessions) + 1}", cwd=Path(cwd))
        self._sessions[session.id] = session
        return {"sessionId": session.id}

    def _session(self, params: _Json) -> Session:
        session = self._sessions.get(str(params.get("sessionId")))
        if session is None:
            raise RpcError(_INVALID_PARAMS, "there is no such session")
        return session

    def _prompt(self, params: _Json, ident: Any) -> None:
        session = self._session(params)
        text = _text(params.get("prompt"))
        if session.busy:
            raise RpcError(_INVALID_REQUEST, "a turn is running in this session")
        session.busy = True
        session.cancelled.clear()
        turn = threading.Thread(target=self._turn, args=(session, text, ident))
        self._turns.append(turn)
        turn.start()

    def _turn(self, session: Session, text: str, ident: Any) -> None:
        try:
            result = Turn(session=session, client=self._client).run(text)
        except RpcError as exc:
            session.busy = False
            self._client.error(ident, _body(exc))
        except RecipeError as exc:
            session.busy = False
            self._client.error(ident, {"code": _INVALID_PARAMS, "message": str(exc)})
        else:
            session.busy = False
            self._client.result(ident, result)


def _welcome() -> _Json:
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "agentCapabilities": {
            "loadSession": False,
            "promptCapabilities": {"image": False, "audio": False, "embeddedContext": False},
        },
        "agentInfo": {"name": "script", "title": "Script", "version": "1"},
        "authMethods": [],
    }


def _can_ask(params: _Json) -> bool:
    """Does the client put forms to people?"""
    capabilities = params.get("clientCapabilities")
    offered = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(offered, dict) and offered.get("form") is not None


def _body(exc: RpcError) -> _Json:
    tail = {"data": {"tail": exc.tail}} if exc.tail is not None else {}
    return {"code": exc.code, "message": str(exc), **tail}


def _text(prompt: object) -> str:
    """The text blocks of a prompt."""
    blocks = prompt if isinstance(prompt, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _cancel(session: Session) -> None:
    session.cancelled.set()
    shell = session.shell
    if shell is not None:
        shell.kill()


def main() -> None:
    ScriptAgent(Client(sys.stdout.buffer)).serve(sys.stdin.buffer)
