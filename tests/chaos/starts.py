"""What Docker says of agents that it started, whatever becomes of Docker meanwhile."""

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
import requests
from docker.errors import DockerException

AGAIN_SECONDS = 0.2
LOOK_BACK_SECONDS = 2
"""What happened while nobody listened is told again; each container counts once."""


@dataclass(slots=True)
class Starts:
    """Containers of agents, by their run (`<task>:<fence>`), and who started them."""

    _ids: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _runs: defaultdict[str | None, set[str]] = field(default_factory=lambda: defaultdict(set))

    # Any: what dockerd tells is raw JSON.
    def note(self, event: dict[str, Any], *, host: str | None) -> None:
        labels = event["Actor"]["Attributes"]
        run = f"{labels['errand.task']}:{labels['errand.fence']}"
        self._ids[run].add(str(event["Actor"]["ID"]))
        self._runs[host].add(run)

    def by_run(self) -> Counter[str]:
        return Counter({run: len(ids) for run, ids in self._ids.items()})

    def on(self, host: str | None) -> set[str]:
        """Runs that this daemon started."""
        return set(self._runs[host])


class _Listener:
    def __init__(self, label: str, host: str | None, starts: Starts) -> None:
        self._marks = [f"errand.installation={label}", "errand.role=agent"]
        self._host = host
        self._starts = starts
        self._over = threading.Event()
        self._told: Any = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError, AttributeError, DockerException):
            self._told.close()
        self._thread.join(5)

    def _listen(self) -> None:
        since = int(time.time())
        while not self._over.is_set():
            with contextlib.suppress(OSError, DockerException, requests.RequestException):
                self._hear(since)
            since = int(time.time()) - LOOK_BACK_SECONDS
            self._over.wait(AGAIN_SECONDS)

    def _hear(self, since: int) -> None:
        with contextlib.closing(client_of(self._host)) as client:
            wanted = {"event": "start", "label": self._marks}
            self._told = client.api.events(since=since, filters=wanted, decode=True)
            for event in self._told:
                self._starts.note(event, host=self._host)


def client_of(host: str | None) -> docker.DockerClient:
    """None is where Docker's client looks by itself."""
    return docker.from_env() if host is None else docker.DockerClient(host)


@contextmanager
def counted(label: str, hosts: Sequence[str | None]) -> Iterator[Starts]:
    """What the daemons tell of the agents with that label, from now on."""
    starts = Starts()
    listeners = [_Listener(label, host, starts) for host in hosts]
    for listener in listeners:
        listener.begin()
    try:
        yield starts
    finally:
        for listener in listeners:
            listener.end()
