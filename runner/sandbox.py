"""The port to a sandbox: three containers that run one attempt, and the lines they speak.

Every container speaks JSON lines on its standard streams, and its log is the transcript. What the worker
sends has a key, and a container acts on a key once, so that all of it may be sent again after a re-attach:

    worker → container   {"key": "setup:0", "to": "init" | "agent", "msg": {...}}
    container → worker   {"n": 7, "at": 1763640000.123, "kind": "...", ...}

`n` counts from 1 without a gap. `at` is Unix time in seconds. Kinds of all: `ready` (first line; the agent's says
what the process found about its own containment), `received` (the key and message of an accepted line; the gateway leaves the message
out), `fatal` (`reason`; the container ends).
Kinds of the agent's container: `agent` (`msg`: one JSON-RPC message of the agent), `output` (`key`, `text`: a piece of a command's
output; `stream`: `stderr`, if that was asked for apart), `exit` (`key`, `status`, `tail`: a command ended), `stderr` (`text`), `noise` (`text`: a line of the agent that is no JSON),
`agent_exit` (`status`).
Kinds of the gateway: `decision` (`verdict`, `host`, `port`, `method`, `path`, `rule`, `reason`, `address`, `count`), `closed` (`host`, `port`,
`rule`, `address`, `requests`, `sent`, `received`, `ms`, `reason`), `push` (`verdict`, `reason`, `head`), `remark` (`text`: what the record should hold),
`ask` (`id`, `tool`, `argv`: a command for the broker), `brokered` (`tool`, `argv`, `verdict`, `reason`),
`usage` (`connection`, `model`, and of all calls so far: `calls`, `input`, `output`, `cache_read`, `cache_write`, `cache_write_hour`, `cost_usd`, `counted_usd`),
`budget` (`limit_usd`, `spent_usd`: a call was refused for it).

Messages to `init` of the agent's container: {"do": "exec", "argv": [...], "cwd": "/workspace", "env": {}, "timeout": seconds, "tail": bytes,
"apart": true to have standard error told apart} and {"do": "note", ...} (kept in the transcript, nothing else), {"do": "start_agent", "argv": [...], "env": {}}.
Messages to `init` of the gateway: {"do": "policy", "egress": [<fields of policies.hosts.EgressRule>], "seconds": <how long the run may take>,
"broker": ["gh"], "publish": {...}, "repo": "owner/name", "branch": "...", "base": "<sha>", "budget": {"limit_usd": 5, "spent_usd": 0}, "connections": [<what policies/connections_json.py
reads, with the credential itself>]}; {"do": "note"}, which has no effect: its `received` says that all lines before it are written; {"do": "allow", "rule": <as in `egress`>,
"until": <Unix time or null>}, which opens one host more; and {"do": "answer", "id": n, "verdict": "...", "reason": "...", "status": n, "stdout": "...", "stderr": "..."}.
"""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from runner.protocol import RunKey, RunLimits, Runtime

Role = Literal["agent", "gateway", "acceptor"]


class SandboxSpec(BaseModel):
    """What a sandbox is made from. Equal specs make equal sandboxes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    installation: str
    host: str
    run: RunKey
    image: str
    """Tag or digest of the agent's image; acceptor and gateway run from the default image."""
    mirror: Path
    """Bare repository, mounted read-only at /mirror in the agent's and the gateway's container."""
    reads: tuple[tuple[str, Path], ...] = ()
    """Other repositories, each as owner/name and a bare one that only the gateway's container has, read-only."""
    limits: RunLimits
    runtime: Runtime = "runc"
    """What runs the agent's container."""
    denied: tuple[str, ...] = ()
    """Names of programs that are masked in the agent's container."""
    ports: tuple[int, ...] = ()
    """Where the agent may connect to, besides HTTP's; nothing else in its container can listen there."""


class Line(BaseModel):
    """One line of a transcript."""

    model_config = ConfigDict(frozen=True, extra="allow")

    n: int
    at: float
    kind: str


class Leftover(BaseModel):
    """A sandbox found by its labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: RunKey
    host: str
    containers: tuple[str, ...]


def stricter(one: Runtime, other: Runtime) -> Runtime:
    return "runsc" if "runsc" in (one, other) else "runc"


class Sandbox(Protocol):
    """One run's containers. Errors of every method: `SandboxStartError`, `SandboxLostError`."""

    async def ensure(self) -> None:
        """Create and start what is not there yet; adopt what is. Safe twice, also after a crash in between."""

    async def image_digest(self) -> str:
        """The image id that the agent's container really runs."""

    def follow(self, role: Role) -> AsyncIterator[Line]:
        """The transcript from its first line, then live; ends when the container has ended.

        May be called again at any time, by any process. Must not slow the container down when nobody reads.
        """

    async def send(self, role: Role, *, key: str, to: str, msg: Mapping[str, Any]) -> None:
        """Write one line to a container's stdin. Safe twice: the container acts on a key once."""

    def bundle(self, *, base: str, branch: str) -> AsyncIterator[bytes]:
        """A git bundle of base..branch out of the gateway's quarantine."""

    async def exit_status(self, role: Role) -> int | None:
        """None while it runs; `SandboxLostError` if there is no such container."""

    async def remove(self) -> None:
        """Remove containers and volumes. What is gone already is no error. Safe twice."""


class SandboxBackend(Protocol):
    def open(self, spec: SandboxSpec) -> Sandbox:
        """A handle; nothing is created yet."""

    async def leftovers(self, *, installation: str, host: str | None = None) -> list[Leftover]:
        """Every sandbox of this installation and host, or of whatever host, that Docker knows, complete or not."""

    async def discard(self, leftover: Leftover) -> None:
        """Remove a sandbox by what was found. Safe twice."""

    async def set_aside(self, leftover: Leftover) -> None:
        """Freeze a sandbox and keep it as it is; it is none of the leftovers any more. Safe twice."""

    async def aside(self, *, installation: str) -> list[Leftover]:
        """Every sandbox of this installation that was set aside, of whatever host; `discard` removes one."""

    async def registries(self, image: str) -> str:
        """What an image says of its package managers' hosts (JSON); empty if it says nothing or is not there."""

    async def check(self) -> list[str]:
        """Problems that `errand doctor` should name, each with what to do; empty if all is well."""

    async def remarks(self) -> list[str]:
        """What would make the host harder to break out of, though all works without it. Errors as of a sandbox."""
