"""The agent's container as a reaction, for `MemoryBackend` and for folding by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.agents.catalogue import AgentEntry
from runner.protocol import EventRecord, Launch, RepoSettings, RunKey, RunLimits
from runner.sandbox import Line
from runner.session import Session
from runner.testing import EPOCH

BASE = "a" * 40
HEAD = "b" * 40
RUN = RunKey(task="01jz", fence=1)
REPAIRING = AgentEntry(
    name="mender", title="Mender", image="default", argv=("mender",), repairs=True
)
PLAIN = AgentEntry(name="script", title="Script", image="default", argv=("script",))


def a_launch(**changes: Any) -> Launch:
    values: dict[str, Any] = {
        "run": RUN,
        "installation": "test",
        "forge": "local",
        "repo": "acme/web",
        "base_branch": "main",
        "branch": "errand/01jz-fix",
        "resume": False,
        "title": "Fix the login test",
        "prompt": "fix it",
        "agent": None,
        "agents": ("script", "mender"),
        "egress": ({"host": "api.acme.com"},),
        "limits": RunLimits(),
        "requester": "dana",
    }
    return Launch.model_validate(values | changes)


def update(kind: str, **fields: Any) -> dict[str, Any]:
    """A session/update of the agent."""
    params = {"sessionId": "s1", "update": {"sessionUpdate": kind, **fields}}
    return {"jsonrpc": "2.0", "method": "session/update", "params": params}


def chunk(text: str, **fields: Any) -> dict[str, Any]:
    return update("agent_message_chunk", content={"type": "text", "text": text}, **fields)


def elicitation(
    message: str, options: list[str], *, request_id: int | str = 7, free: bool = False
) -> dict[str, Any]:
    """The agent asks people."""
    properties: dict[str, Any] = {"answer": {"type": "string", "enum": options}}
    if free:
        properties["answer_other"] = {"type": "string"}
    params = {
        "mode": "form",
        "sessionId": "s1",
        "message": message,
        "requestedSchema": {"type": "object", "properties": properties},
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": "elicitation/create", "params": params}


def answer(request: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": dict(result)}


@dataclass
class AgentContainer:
    """Does what it is told: the next status of each kind of step from its list, else success."""

    statuses: dict[str, list[int]] = field(default_factory=dict)
    """By the first part of a key: `setup`, `verify`, `push`, …"""
    tails: dict[str, str] = field(default_factory=dict)
    heads: list[str] = field(default_factory=lambda: [HEAD])
    """What `commit` leaves; the last one stays."""
    changed: bool = True
    turn: list[dict[str, Any]] = field(default_factory=lambda: [chunk("All "), chunk("done.")])
    hangs: set[str] = field(default_factory=set)
    """Methods and steps that get no answer; `turn` for one that begins and does not end."""
    stop_reason: str = "end_turn"
    sees: bool = False
    """It takes pictures."""
    prompts: list[str] = field(default_factory=list)

    def __call__(self, key: str, to: str, msg: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        if to == "agent":
            return [{"kind": "agent", "msg": m} for m in self._speak(msg)]
        return self._execute(key, msg)

    def _execute(self, key: str, msg: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        name = key.partition(":")[0]
        if msg.get("do") != "exec" or name in self.hangs:
            return []
        planned = self.statuses.get(name, [])
        status = planned.pop(0) if planned else 0
        tail = self.tails.get(name, "")
        if name == "probe":
            status = 1 if self.changed else 0
        if name == "commit":
            head = self.heads.pop(0) if len(self.heads) > 1 else self.heads[0]
            tail = f"head {head if self.changed else BASE}\n"
        return [{"kind": "exit", "key": key, "status": status, "tail": tail}]

    def _speak(self, msg: Mapping[str, Any]) -> list[dict[str, Any]]:
        method = msg.get("method")
        if method in self.hangs:
            return []
        match method:
            case "initialize":
                offered = {"promptCapabilities": {"image": self.sees}}
                return [answer(msg, {"protocolVersion": 1, "agentCapabilities": offered})]
            case "session/new":
                return [answer(msg, {"sessionId": "s1"})]
            case "session/prompt":
                self.prompts.append(msg["params"]["prompt"][0]["text"])
                return self._take_turn(msg)
            case _:
                return []

    def _take_turn(self, msg: Mapping[str, Any]) -> list[dict[str, Any]]:
        ends = answer(msg, {"stopReason": self.stop_reason})
        return self.turn if "turn" in self.hangs else [*self.turn, ends]


@dataclass
class Fold:
    """Plays a container and a session against each other, and keeps the transcript."""

    container: AgentContainer = field(default_factory=AgentContainer)
    settings: RepoSettings = field(default_factory=RepoSettings)
    agent: AgentEntry = REPAIRING
    launch: Launch = field(default_factory=a_launch)
    lines: list[Line] = field(default_factory=list)
    records: list[EventRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = self.fresh()
        self._sent: set[str] = set()
        self._unread = 0

    def fresh(self) -> Session:
        return Session(
            launch=self.launch, settings=self.settings, agent=self.agent, base_commit=BASE
        )

    def line(self, kind: str, **fields: Any) -> None:
        n = len(self.lines) + 1
        record = {"n": n, "at": EPOCH + n, "kind": kind, **fields}
        self.lines.append(Line.model_validate(record))

    def send(self, key: str, to: str, msg: Mapping[str, Any]) -> None:
        if key not in self._sent:
            self._sent.add(key)
            self.line("received", key=key, to=to, msg=dict(msg))
            for step in self.container(key, to, msg):
                self.line(**step)

    def command(self, command: str, kind: str, text: str = "", **more: str) -> None:
        self.send(f"cmd:{command}", "init", {"do": "note", "kind": kind, "text": text, **more})

    def reply(self, command: str, question: str, said: str) -> None:
        """What somebody says to a question of the agent."""
        self.command(command, "answer", f"The answer is: {said}", question=question, answer=said)

    def run(self) -> "Fold":
        """Until nothing happens any more."""
        if not self.lines:
            self.line("ready")
        while self._unread < len(self.lines):
            line = self.lines[self._unread]
            self._unread += 1
            self.records += self.session.feed(line)
            for out in self.session.pending():
                self.send(out.key, out.to, out.msg)
        return self

    def events(self) -> list[Any]:
        return [record.event for record in self.records]
