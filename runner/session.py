"""One run as a fold over the transcript of the agent's container, without I/O.

The same transcript gives the same events, the same pending lines and the same verdict, whoever folds it and however
often: that is what lets a new worker go on where a killed one stood.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from runner import steps
from runner.acp import AcpClient, Initialized, Message, Outcome, Refused, SessionOpened, TurnEnded
from runner.agents.catalogue import AgentEntry
from runner.errors import AgentProtocolError
from runner.pictures import Shown
from runner.protocol import CommandSeen, EventRecord, Finished, Launch, RepoSettings, StepStatus
from runner.report import DETAIL_CHARACTERS, Report
from runner.sandbox import Line
from runner.steps import Check, Outgoing

EVENTS_PER_LINE: Final = 10
MAX_REPAIRS: Final = 2
ANSWER_SECONDS: Final = 2.0
"""What an agent gets to end its turn when it is told to; then it is killed."""
_UNFINISHED: Final[Mapping[str, str]] = {
    "max_tokens": "The agent reached its model's token limit before it was done.",
    "max_turn_requests": "The agent reached its own limit of model requests before it was done.",
    "refusal": "The agent refused the request.",
    "cancelled": "The agent broke off its turn.",
}


class Session:
    """Feed it every line from the first; after each, send what is `pending`; it ends with a `verdict`."""

    def __init__(
        self,
        *,
        launch: Launch,
        settings: RepoSettings,
        agent: AgentEntry,
        base_commit: str,
        start_commit: str = "",
        pictures: Sequence[Shown] = (),
    ) -> None:
        self.stopping = False
        self.fatal = ""
        """Why the container ended itself, if it did."""
        self._launch = launch
        self._settings = settings
        self._agent = agent
        self._base = base_commit
        self._start = start_commit or base_commit
        self._acp = AcpClient(pictures)
        self._pending: dict[str, Outgoing] = {}
        self._report = Report()
        self._exec = ""
        self._turn: Literal["", "agent", "repair"] = ""
        self._agent_gone = False
        self._turns = 0
        self._steers: list[str] = []
        self._repairs, self._refused_before = 0, False
        self._head = ""

    @property
    def verdict(self) -> Finished | None:
        """How the run ended. `done` and `changed` says that the commits lie in the quarantine."""
        return self._report.verdict

    def feed(self, line: Line) -> list[EventRecord]:
        if self.verdict is None:
            self._fold(line.kind, line.model_extra or {})
        at = datetime.fromtimestamp(line.at, UTC)
        first = line.n * EVENTS_PER_LINE
        return [
            EventRecord(run=self._launch.run, source="agent", seq=first + i, at=at, event=event)
            for i, event in enumerate(self._report.take())
        ]

    def pending(self) -> list[Outgoing]:
        """What should have been sent, and the container has not yet received."""
        return list(self._pending.values()) if self.verdict is None else []

    def _fold(self, kind: str, fields: Mapping[str, Any]) -> None:
        match kind:
            case "ready":
                self._report.phase("prepare", StepStatus.RUNNING)
                self._execute("prepare", steps.prepare(self._launch, self._start))
            case "received":
                self._received(str(fields.get("key", "")), fields.get("msg"))
            case "exit" if fields.get("key") == self._exec:
                self._exec = ""
                self._exited(fields["key"], int(fields["status"]), str(fields.get("tail", "")))
            case "agent" if not _was_cut(fields):
                self._heard(fields["msg"])
            case "agent_exit":
                self._agent_gone = True
                if self._turn:
                    self._turn_failed(f"The agent ended with status {fields.get('status')}.")
            case _:
                self._noticed(kind, fields)

    def _noticed(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind in {"stderr", "noise"}:
            self._report.heard(str(fields.get("text", "")))
        elif kind == "fatal":
            self.fatal = str(fields.get("reason", ""))

    # What is sent

    def _send(self, key: str, to: Literal["init", "agent"], msg: Mapping[str, Any]) -> None:
        self._pending[key] = Outgoing(key=key, to=to, msg=msg)

    def _tell(self, message: Message) -> None:
        self._send(message.key, "agent", message.msg)

    def _execute(self, key: str, msg: Mapping[str, Any]) -> None:
        self._exec = key
        self._send(key, "init", msg)

    def _received(self, key: str, msg: object) -> None:
        self._pending.pop(key, None)
        if key == "start_agent":
            self._tell(self._acp.initialize())
        elif key.startswith("cmd:") and isinstance(msg, dict):
            self._commanded(key.removeprefix("cmd:"), msg)

    # What people want

    def _commanded(self, command: str, msg: Mapping[str, Any]) -> None:
        """A steer that comes too late to be acted on is not confirmed: it belongs to a next run."""
        if msg.get("kind") == "stop":
            if command:
                self._report.tell(CommandSeen(command=command))
            self._stop()
        elif not self.stopping and msg.get("kind") == "answer" and self._answered(msg):
            self._report.tell(CommandSeen(command=command))
        elif not self.stopping and self._may_prompt() and not self._exec.startswith("push:"):
            self._report.tell(CommandSeen(command=command))
            self._steers.append(str(msg.get("text", "")))

    def _answered(self, msg: Mapping[str, Any]) -> bool:
        """False if nobody waits for it any more: then it is word like any other."""
        found = self._acp.answer(str(msg.get("question", "")), str(msg.get("answer", "")))
        self._came_out(*(found or ()))
        return found is not None

    def _stop(self) -> None:
        """The first stop keeps what there is of the work; a second one does not wait for that."""
        if self.stopping or not self._turns:
            self.stopping = True
            self._report.stopped()
            return
        self.stopping = True
        if self._exec.startswith(("commit:", "push:")):
            return
        has_begun = self._exec not in self._pending
        self._pending.clear()
        self._came_out(*self._acp.drop_questions())
        if self._turn:
            self._tell(self._acp.cancel())
            self._send("end_agent", "init", {"do": "end_agent", "seconds": ANSWER_SECONDS})
            return
        self._send("end_exec", "init", {"do": "end_exec", "key": self._exec})
        if not has_begun:
            self._keep()

    def _keep(self) -> None:
        """Hand in what a stopped agent leaves, as it is."""
        self._turn = ""
        self._commit()

    # The steps, in their order

    def _exited(self, key: str, status: int, tail: str) -> None:
        name, _, rest = key.partition(":")
        if self.stopping and name in {"probe", "verify"}:
            self._keep()
            return
        match name:
            case "prepare":
                self._prepared(status, tail)
            case "setup":
                self._set_up(int(rest), status, tail)
            case "probe":
                self._probed(status)
            case "verify":
                self._verified(int(rest.partition(":")[2]), status, tail)
            case "commit":
                self._committed(status, tail)
            case _:
                self._pushed(status, tail)

    def _prepared(self, status: int, tail: str) -> None:
        if status:
            self._report.fail(
                "prepare", "The workspace could not be prepared.", tail=tail, ours=True
            )
            return
        self._report.phase("prepare", StepStatus.DONE)
        self._next_setup(0)

    def _next_setup(self, index: int) -> None:
        if index == len(self._settings.setup):
            self._start_agent()
            return
        command = self._settings.setup[index]
        self._report.phase("setup", StepStatus.RUNNING, detail=command)
        seconds = self._launch.limits.wall_seconds
        self._execute(f"setup:{index}", steps.shell(command, seconds=seconds))

    def _set_up(self, index: int, status: int, tail: str) -> None:
        command = self._settings.setup[index]
        if status:
            reason = f"The setup command `{command}` failed with status {status}."
            self._report.fail("setup", reason, tail=tail, detail=command)
            return
        self._report.phase("setup", StepStatus.DONE, detail=command)
        self._next_setup(index + 1)

    def _start_agent(self) -> None:
        self._turn = "agent"
        self._report.phase("agent", StepStatus.RUNNING)
        environment = self._agent.environment(self._launch.model)
        start = {"do": "start_agent", "argv": list(self._agent.argv), "env": environment}
        self._send("start_agent", "init", start)

    def _prompt(self, turn: Literal["agent", "repair"], *texts: str, detail: str = "") -> None:
        if self._turns:
            self._report.phase(turn, StepStatus.RUNNING, detail=detail)
        if self._agent_gone:
            self._report.fail(
                turn, "The agent is gone and could not go on.", tail=self._report.noise
            )
            return
        self._turn = turn
        self._turns += 1
        self._tell(self._acp.prompt([text for text in texts if text]))

    def _request(self) -> tuple[str, ...]:
        launch = self._launch
        around = steps.context_prompt(launch.context)
        others = steps.reads_prompt([read.repo for read in launch.reads])
        return launch.prompt, steps.guidance_prompt(launch.guidance), others, around

    def _may_prompt(self) -> bool:
        return self._turns + len(self._steers) < self._launch.limits.turns

    def _steered(self) -> bool:
        """Go on with the next thing that people said meanwhile, if there is one."""
        if not self._steers:
            return False
        self._prompt("agent", self._steers.pop(0))
        return True

    def _heard(self, msg: object) -> None:
        try:
            outcomes = self._acp.feed(msg if isinstance(msg, dict) else {})
        except AgentProtocolError as error:
            self._turn_failed(f"The agent broke its protocol: {error}.")
            return
        self._came_out(*outcomes)

    def _came_out(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self._heed(outcome)

    def _heed(self, outcome: Outcome) -> None:
        match outcome:
            case Message():
                self._tell(outcome)
            case Initialized():
                self._tell(self._acp.new_session(steps.WORKSPACE))
            case SessionOpened():
                self._prompt("agent", *self._request(), self._agent.brief)
            case TurnEnded():
                self._turn_ended(outcome.stop_reason)
            case Refused():
                self._turn_failed(f"The agent reported an error: {outcome.reason}", outcome.tail)
            case _:
                self._report.tell(outcome)

    def _turn_ended(self, stop_reason: str) -> None:
        self._came_out(*self._acp.drop_questions())
        if self.stopping:
            self._keep()
        elif reason := _UNFINISHED.get(stop_reason):
            self._turn_failed(reason)
        else:
            self._report.phase(self._turn or "agent", StepStatus.DONE)
            self._turn = ""
            self._hand_over()

    def _turn_failed(self, reason: str, tail: str = "") -> None:
        self._came_out(*self._acp.drop_questions())
        if self.stopping:
            self._keep()
        else:
            self._report.fail(self._turn or "agent", reason, tail=tail or self._report.noise)

    def _hand_over(self) -> None:
        """The agent is done, as far as it knows."""
        if self._steered():
            return
        if self._settings.verify:
            self._execute(f"probe:{self._turns}", steps.probe(self._base))
        else:
            self._commit()

    def _probed(self, status: int) -> None:
        """Checks are for changes: where there are none, there is nothing to verify or to hand in."""
        if self._steered():
            return
        if status == 0:
            self._report.done(head="")
            return
        self._report.checks = []
        self._verify(0)

    def _verify(self, index: int) -> None:
        command = self._settings.verify[index]
        self._report.phase("verify", StepStatus.RUNNING, detail=command)
        seconds = self._launch.limits.wall_seconds
        self._execute(f"verify:{self._turns}:{index}", steps.shell(command, seconds=seconds))

    def _verified(self, index: int, status: int, tail: str) -> None:
        command = self._settings.verify[index]
        self._report.checks.append(Check(command=command, status=status, tail=tail))
        if status:
            self._report.phase("verify", StepStatus.FAILED, detail=command, tail=tail)
        else:
            self._report.phase("verify", StepStatus.DONE, detail=command)
        if index + 1 < len(self._settings.verify):
            self._verify(index + 1)
        else:
            self._judge()

    def _judge(self) -> None:
        failed = [check for check in self._report.checks if check.status]
        if self._steered():
            return
        if not failed:
            self._commit()
        elif self._agent.repairs and self._repairs < MAX_REPAIRS and self._may_prompt():
            self._repairs += 1
            self._prompt("repair", steps.repair_prompt(failed), detail=failed[0].command)
        else:
            tried = f" after {self._repairs} repairs" if self._repairs else ""
            self._report.end_failed(f"`{failed[0].command}` fails{tried}.", tail=failed[0].tail)

    def _commit(self) -> None:
        self._report.phase("commit", StepStatus.RUNNING)
        self._execute(f"commit:{self._turns}", steps.commit(self._launch, unlock=self.stopping))

    def _committed(self, status: int, tail: str) -> None:
        self._head = "" if status else steps.head(tail)
        if not self._head:
            reason = "What the agent left could not be committed."
            if self.stopping:
                self._report.stopped(reason=reason)
            else:
                self._report.fail("commit", reason, tail=tail)
            return
        self._report.phase("commit", StepStatus.DONE)
        if not self.stopping and self._steered():
            return
        if self._head == self._base:
            self._end(head="")
        else:
            self._report.phase("push", StepStatus.RUNNING)
            self._execute(f"push:{self._turns}", steps.push(self._launch))

    def _pushed(self, status: int, tail: str) -> None:
        if status == 0:
            self._report.phase("push", StepStatus.DONE)
            self._end(head=self._head)
            return
        words = steps.refusal(tail)
        if self.stopping:
            reason = f"What it had done so far was refused: {words[:DETAIL_CHARACTERS]}"
            self._report.stopped(reason=reason)
        elif self._agent.repairs and not self._refused_before and self._may_prompt():
            self._refused_before = True
            self._report.phase("push", StepStatus.FAILED, tail=tail)
            self._prompt("repair", steps.refusal_prompt(words), detail="push")
        else:
            reason = f"The changes were refused: {words[:DETAIL_CHARACTERS]}"
            self._report.fail("push", reason, tail=tail)

    def _end(self, *, head: str) -> None:
        if self.stopping:
            self._report.stopped(head=head)
        else:
            self._report.done(head=head)


def _was_cut(fields: Mapping[str, Any]) -> bool:
    """An update that was too long for a line lost its content; a response is still needed."""
    msg = fields.get("msg")
    return "note" in fields and isinstance(msg, dict) and msg.get("method") == "session/update"
