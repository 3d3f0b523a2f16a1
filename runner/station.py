"""What all runs of one worker share."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from runner.agents.catalogue import CATALOGUE, AgentEntry
from runner.lease import Leases
from runner.meter import Meter
from runner.mirror import Mirrors
from runner.protocol import Runtime
from runner.sandbox import SandboxBackend
from runner.serve_client import ServeClient
from runner.streams import Streams
from runner.tracing import NoTracing, Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things may take, in seconds."""

    renew: float = 10.0
    """Between two renewals of a lease."""
    poll: float = 0.3
    """Between two questions whether the end was applied."""
    grace: float = 2.0
    """What an agent without a budget gets to end its turn."""
    keep: float = 60.0
    """What a stopped run gets to hand in what there is of the work."""
    guard: float = 30.0
    """What a gateway gets to take its policy, and to tell of a push."""
    beat: float = 5.0
    """Between two heartbeats of a host."""
    outage: float = 120.0
    """How long Docker may not answer before a run there counts as lost."""
    mend: float = 1800.0
    """How long this host may lack space or files, all in all, before a run there counts as lost."""
    sweep: float = 60.0
    """Between two looks for what was left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    installation: str
    host: str
    runs: Path
    """Where each run has a directory."""
    images: Mapping[str, str]
    """Tags or digests by the names that `.errand.yml` and the catalogue use."""
    backend: SandboxBackend
    serve: ServeClient
    mirrors: Mirrors
    leases: Leases
    streams: Streams
    secrets: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    """Credentials that gateways add, by their names in the policy."""
    catalogue: Mapping[str, AgentEntry] = field(default_factory=lambda: CATALOGUE)
    runtime: Runtime = "runc"
    """The least that this host demands."""
    pace: Pace = Pace()
    meter: Meter = field(default_factory=Meter)
    tracing: Tracing = field(default_factory=NoTracing)
    clock: Callable[[], float] = time.time
    """The clock that stamps transcripts."""
