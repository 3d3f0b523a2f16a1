"""What `serve` and `work` say to each other: a Launch, its Events, and Commands to a live run."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from policies.connection_model import GrantedConnection, GrantedTcp
from policies.hosts import EgressRule
from policies.model import RepoRead
from runner.pictures import Picture


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Runtime = Literal["runc", "runsc"]
"""What keeps a container from the host: `runc` by the kernel's own means, `runsc` (gVisor) by a kernel of its own."""


class RunKey(_Value):
    """One attempt of a task."""

    task: str
    fence: int = Field(ge=1)

    @override
    def __str__(self) -> str:
        return f"{self.task}:{self.fence}"


class RunLimits(_Value):
    wall_seconds: int = Field(default=3600, gt=0)
    memory_mib: int = Field(default=4096, ge=128)
    cpus: float = Field(default=2.0, gt=0)
    pids: int = Field(default=512, ge=32)
    disk_mib: int = Field(default=10240, ge=64)
    turns: int = Field(default=20, ge=1)
    """Agent turns in one run, repairs and steering included."""
    cost_usd: float = Field(default=5.0, gt=0)
    """What the runs of a round may spend on models together."""


class PublishLimits(_Value):
    """What the quarantine accepts; judged again by `serve`."""

    protected: tuple[str, ...] = (".github/workflows/**",)
    max_files: int = 200
    max_bytes: int = 5_000_000
    max_commits: int = 100


class Launch(_Value):
    """All a worker needs to run one attempt. Holds no secret."""

    version: Literal[1] = 1
    run: RunKey
    installation: str
    forge: str
    repo: str
    """owner/name"""
    base_branch: str
    """The default branch: `.errand.yml` is read there."""
    branch: str
    """The branch of the task, `errand/<task>-<slug>`."""
    resume: bool
    """True when `branch` is already on the forge and the work goes on from its head."""
    kept: bool = False
    """With `resume`: the branch holds what was kept of stopped work, and is handed in with what comes."""
    title: str
    prompt: str
    pictures: tuple[Picture, ...] = ()
    context: str = ""
    """What others wrote around the request: data, and labelled so for the agent."""
    guidance: str = ""
    """Rules that the owners of the place set for agents."""
    agent: str | None
    """The agent that was asked for; None leaves it to `.errand.yml`, then to the first of `agents`."""
    agents: tuple[str, ...]
    """The agents that the grant allows."""
    model: str = ""
    """The model that was asked for, for agents that use one; empty leaves it to them."""
    egress: tuple[EgressRule, ...]
    """What the run may reach."""
    profiles: tuple[str, ...] = ()
    """Named lists of hosts that it may reach besides: the worker knows what is in them."""
    connections: tuple[GrantedConnection, ...] = ()
    """Upstreams that the gateway may call for the run, with secrets that the worker has: here are only their names."""
    reads: tuple[RepoRead, ...] = ()
    """Other repositories that it may fetch."""
    spent_usd: float = Field(default=0.0, ge=0)
    """By earlier runs of the same round; counts against the budget."""
    limits: RunLimits = RunLimits()
    publish: PublishLimits = PublishLimits()
    runtime: Runtime = "runc"
    """The least that the policy demands; a worker may demand more."""
    denied_commands: tuple[str, ...] = ()
    """Programs that must not be there."""
    brokered_commands: tuple[str, ...] = ()
    """Programs that `serve` runs a part of."""
    requester: str
    """Name for the commit's trailer and for git's committer."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Where connections are to be reached, besides HTTP's."""
        return tuple(sorted({c.place[1] for c in self.connections if isinstance(c, GrantedTcp)}))


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class PlanEntry(_Value):
    title: str
    status: StepStatus


class Started(_Value):
    """The sandbox is up."""

    kind: Literal["started"] = "started"
    host: str
    image: str
    image_digest: str
    agent: str
    base_commit: str


class Phase(_Value):
    """A fixed step around the agent began or ended."""

    kind: Literal["phase"] = "phase"
    name: Literal["prepare", "setup", "agent", "verify", "repair", "commit", "push"]
    status: StepStatus
    detail: str = ""
    """The command, or what failed."""
    tail: str = ""
    """Last lines of output, on failure."""


class Plan(_Value):
    kind: Literal["plan"] = "plan"
    entries: tuple[PlanEntry, ...]


class ToolCall(_Value):
    """A tool call began or changed; the last word for an id counts."""

    kind: Literal["tool"] = "tool"
    id: str
    title: str
    status: StepStatus
    output: str = ""
    """Last part of the output, at most 4,000 characters."""


class Said(_Value):
    """A whole message of the agent, at most 12,000 characters."""

    kind: Literal["said"] = "said"
    text: str


class Usage(_Value):
    """Totals of the run so far."""

    kind: Literal["usage"] = "usage"
    metered: bool = False
    """Counted by the gateway; else it is what the agent says of itself."""
    input_tokens: int | None = None
    """Of those that were metered: without what came from a cache."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Read from the provider's cache."""
    cost_usd: float | None = None
    """None where a price is not known."""
    counted_usd: float | None = None
    """What counts against the budget: the cost, with a guess on the dear side where a price is not known."""


class Egress(_Value):
    """A decision of the gateway: the first of a connection and a method, and every one that says no."""

    kind: Literal["egress"] = "egress"
    verdict: Literal["allow", "deny"]
    host: str
    port: int
    method: str = ""
    """Empty where nothing was read: TLS that passes through, or a connection that was denied before a request."""
    path: str = ""
    """Without the query."""
    rule: str
    """What allowed it, or came nearest to it."""
    reason: str
    """Why not."""
    address: str = ""
    """The address that is dialled."""
    count: int = Field(default=1, ge=1)
    """The same was decided so many times: what is denied over and over is told once in a while."""


class Traffic(_Value):
    """What went through a connection, told at its end."""

    kind: Literal["traffic"] = "traffic"
    host: str
    port: int
    rule: str
    address: str = ""
    requests: int = 0
    """Zero where nothing was read."""
    sent: int
    """Bytes of the agent."""
    received: int
    milliseconds: int = 0
    reason: str = ""
    """Why it ended, unless it just ended."""


class Remark(_Value):
    """Something that the record of the run should hold: a policy that was not taken, a profile without hosts."""

    kind: Literal["remark"] = "remark"
    text: str


class Brokered(_Value):
    """A command that was to be run outside."""

    kind: Literal["brokered"] = "brokered"
    tool: str
    argv: tuple[str, ...]
    verdict: Literal["allow", "deny"]
    reason: str


class CommandSeen(_Value):
    """A command reached the run; it need not be sent again."""

    kind: Literal["command_seen"] = "command_seen"
    command: str


class Question(_Value):
    """The agent asks people something, and waits for the answer."""

    kind: Literal["question"] = "question"
    id: str
    """Unique in the run."""
    text: str
    options: tuple[str, ...] = ()
    """Answers that it offers; other words may be one too."""


class QuestionClosed(_Value):
    """Nothing waits for the answer any more."""

    kind: Literal["question_closed"] = "question_closed"
    id: str
    answered: bool


class CheckResult(_Value):
    command: str
    passed: bool


class Finished(_Value):
    """The last event of a run. With outcome `done` and `changed`, the commits have been handed in before."""

    kind: Literal["finished"] = "finished"
    outcome: Literal["done", "failed", "stopped", "expired"]
    changed: bool = False
    head: str = ""
    """Commit that was handed in."""
    summary: str = ""
    """What the agent said last."""
    reason: str = ""
    """Why it failed, for people."""
    tail: str = ""
    checks: tuple[CheckResult, ...] = ()
    infrastructure: bool = False
    """The fault is ours (host, Docker, image): worth another attempt."""


Event = Annotated[
    Started
    | Phase
    | Plan
    | ToolCall
    | Said
    | Usage
    | Egress
    | Traffic
    | Remark
    | Brokered
    | CommandSeen
    | Question
    | QuestionClosed
    | Finished,
    Field(discriminator="kind"),
]


class EventRecord(_Value):
    """An event with its key: (task, fence, source, seq) is unique and the same after a re-attach."""

    run: RunKey
    source: Literal["worker", "agent", "gateway"]
    seq: int = Field(ge=0)
    at: datetime
    event: Event


class HostOpening(_Value):
    """A host that people opened to a live run. One whole name: only a policy has wildcards."""

    host: str
    ports: tuple[str, ...] = ("https:443", "http:80")
    methods: tuple[str, ...] | None = None
    """None: every method."""
    expires: datetime | None = None
    """None: with the run."""

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        if self.host.startswith("*"):
            raise ValueError("an opening names one host")
        self.rule()
        return self

    def rule(self) -> EgressRule:
        return EgressRule(host=self.host, ports=self.ports, methods=self.methods)


class Answer(_Value):
    """What somebody said to a question of the agent."""

    question: Question
    text: str

    def as_word(self) -> str:
        """For an agent that does not wait for it any more."""
        return f"You asked: {self.question.text}\nThe answer is: {self.text}"


class Command(_Value):
    """Something that a person wants a live run to know. Sent until a `CommandSeen` comes back."""

    id: str
    run: RunKey
    kind: Literal["stop", "steer", "allow", "answer"]
    text: str = ""
    opening: HostOpening | None = None
    """With `allow`, and with nothing else."""
    answer: Answer | None = None
    """With `answer`, and with nothing else."""

    @model_validator(mode="after")
    def _holds_what_goes_with_it(self) -> Self:
        if (self.kind == "allow") != (self.opening is not None):
            raise ValueError("`opening` goes with `allow`")
        if (self.kind == "answer") != (self.answer is not None):
            raise ValueError("`answer` goes with `answer`")
        return self


class RepoSettings(_Value):
    """`.errand.yml`, as read from the default branch."""

    image: str = "default"
    setup: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    agent: str | None = None


class Asked(_Value):
    """A command line that a sandbox wants run outside."""

    tool: str = Field(max_length=100)
    argv: tuple[str, ...]


class Answered(_Value):
    """What came of it."""

    verdict: Literal["allow", "deny"]
    reason: str = ""
    status: int
    stdout: str = ""
    stderr: str = ""
