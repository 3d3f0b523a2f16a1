"""Making, adopting and removing one container or volume. Blocking; accepts reality.

Raises what the docker package raises, and SandboxStartError where Docker did something else than asked:
SandboxDiffersError if it was started already.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import docker
import stamina
import structlog
from docker.errors import APIError, NotFound

from runner.docker.compare import adopted_mismatches, mismatches
from runner.docker.spec import Wanted
from runner.engine import conflict
from runner.errors import SandboxDiffersError, SandboxStartError

log = structlog.get_logger()

_ASIDE: Final = "aside-"
_REMOVE_SECONDS: Final = 20.0
_FREEZE_SECONDS: Final = 20.0
_LOOK_AGAIN_SECONDS: Final = 0.05
OURS: Final = ("errand.installation", "errand.host", "errand.task", "errand.fence", "errand.role")


def make_volume(api: docker.APIClient, body: Mapping[str, Any]) -> None:
    """Create it, or find it as it must be."""
    # A volume of that name is given back as it is, with whatever options.
    found = api.create_volume(**body)
    if found.get("Options") != body["driver_opts"] and not _made_otherwise(found, body):
        raise SandboxDiffersError(f"volume {body['name']} is there with other options")


def _made_otherwise(found: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """By another version: this run's volume, and in memory as every one, though it may be of another size."""
    have, want = found.get("Labels") or {}, body["labels"]
    differ = {label for label in want if have.get(label) != want[label]}
    options = found.get("Options") or {}
    return (
        differ <= {"errand.version"}
        and (options.get("type"), options.get("device")) == ("tmpfs", "tmpfs")
        and {"nosuid", "nodev", "noexec"} <= set(str(options.get("o")).split(","))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A container that is as it must be."""

    id: str
    started: bool
    """It runs, or has ended: one that has ended is not started again, its transcript is complete."""


def make_container(api: docker.APIClient, wanted: Wanted) -> Made:
    """Create it, or adopt the one of that name. One of ours that differs is removed if it was never started.

    Raises:
        SandboxDiffersError: it differs, and was started: a person decides.
    """
    try:
        made = api.create_container_from_config(  # type: ignore[no-untyped-call]
            dict(wanted.body), wanted.name
        )
    except APIError as exc:
        if not conflict(exc):
            raise
        return _adopt(api, wanted)
    found = api.inspect_container(made["Id"])
    return _checked(api, found, wanted, mismatches(found, wanted))


def start_container(api: docker.APIClient, made: Made) -> None:
    if not made.started:
        api.start(made.id)


def remove_all(api: docker.APIClient, *, containers: Iterable[str], volumes: Iterable[str]) -> None:
    """Containers side by side, then the volumes."""
    names = list(containers)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as side_by_side:
        removals = [side_by_side.submit(remove_container, api, name) for name in names]
    for removal in removals:
        removal.result()
    for volume in volumes:
        remove_volume(api, volume)


def name_of(listed: Mapping[str, Any]) -> str:
    """Of a container as Docker lists it."""
    return str(listed["Names"][0]).removeprefix("/")


def is_aside(name: str) -> bool:
    """A container of this name was set aside."""
    return name.startswith(_ASIDE)


def freeze_all(api: docker.APIClient, names: Iterable[str]) -> None:
    """Pause containers, and give them names that no run will have. Paused already, or gone, is fine."""
    for name in names:
        try:
            _freeze(api, name)
            api.rename(name, f"{_ASIDE}{name}")
        except NotFound:
            continue


def _may_pass(error: Exception) -> bool:
    """On a busy host Docker gives up freezing now and then: "unable to freeze"."""
    return isinstance(error, APIError) and bool(error.is_server_error())


@stamina.retry(on=_may_pass, attempts=5, timeout=_FREEZE_SECONDS)
def _freeze(api: docker.APIClient, name: str) -> None:
    state = api.inspect_container(name)["State"]
    if state["Running"] and not state["Paused"]:
        api.pause(name)


def remove_container(api: docker.APIClient, name: str) -> None:
    """Kill and remove it, and wait until it is gone. Gone already is fine."""
    # A conflict: somebody else removes it at this moment, or its process resists.
    _until_gone(lambda: api.remove_container(name, v=True, force=True))


def remove_volume(api: docker.APIClient, name: str) -> None:
    """As `remove_container`."""
    # A conflict: it is in use for a moment after its containers are gone.
    _until_gone(lambda: api.remove_volume(name))


def _until_gone(remove: Callable[[], None]) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    pause = threading.Event()
    while True:
        try:
            remove()
        except NotFound:
            return
        except APIError as exc:
            if not conflict(exc) or time.monotonic() > deadline:
                raise
            pause.wait(_LOOK_AGAIN_SECONDS)
        else:
            return


def _adopt(api: docker.APIClient, wanted: Wanted) -> Made:
    found = api.inspect_container(wanted.name)
    have, want = found["Config"]["Labels"] or {}, wanted.body["Labels"]
    if any(have.get(label) != want[label] for label in OURS):
        raise SandboxStartError(f"a container named {wanted.name} is there and is not ours")
    log.info("container_adopted", container=wanted.name, status=found["State"]["Status"])
    return _checked(api, found, wanted, adopted_mismatches(found, wanted))


def _checked(
    api: docker.APIClient, found: Mapping[str, Any], wanted: Wanted, wrong: list[str]
) -> Made:
    started = found["State"]["Status"] != "created"
    if wrong:
        said = f"{wanted.name} is not as specified: {'; '.join(wrong)}"
        if started:
            raise SandboxDiffersError(said)
        remove_container(api, found["Id"])
        raise SandboxStartError(said)
    return Made(id=found["Id"], started=started)
