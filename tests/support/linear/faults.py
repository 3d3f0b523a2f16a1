"""What goes wrong next: `linear.faults.add(rate_limited(), operation="agentActivityCreate", times=3)`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.support.linear.errors import (
    LinearError,
    conflict,
    refused,
)
from tests.support.linear.errors import (
    rate_limited as _rate_limited,
)

Json = dict[str, Any]
When = Literal["before", "after"]
"""Before the request takes effect, or when it has."""
TOKEN: Final = "oauth/token"
"""As an operation: requests to the token endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    effect: bool = True
    """Whether the request takes effect."""
    hold: When | None = None
    """Wait there for `release()`."""
    cut: bool = False
    """No answer: the line is cut."""
    reply: Callable[[], Reply] | None = None
    """In place of the answer; made when it is sent, for it may hold a time."""
    alter: Mapping[str, Any] = field(default_factory=dict)
    """Values in `data`, by path: `agentSession.status`, `issue.labels.nodes.0.name`."""
    errors: Sequence[Json] = ()
    """Beside the data."""

    def altered(self, body: Json) -> Json:
        for path, value in self.alter.items():
            *parents, last = path.split(".")
            at: Any = body["data"]
            for name in parents:
                at = at[_key(at, name)]
            at[_key(at, last)] = value
        return body | ({"errors": list(self.errors)} if self.errors else {})


@dataclass(slots=True)
class Faults:
    """Each is for the next request of its operation, or for the next of all; the first that fits is taken."""

    waiting: list[tuple[str | None, Fault]] = field(default_factory=list)

    def add(self, fault: Fault, *, operation: str | None = None, times: int = 1) -> None:
        """`operation`: a root field, the operation's own name, or `oauth/token`."""
        self.waiting.extend([(operation, fault)] * times)

    def clear(self) -> None:
        self.waiting.clear()

    def take(self, names: Sequence[str]) -> Fault:
        for index, (operation, fault) in enumerate(self.waiting):
            if operation in {None, *names}:
                del self.waiting[index]
                return fault
        return Fault()


def rate_limited(seconds: float = 60, *, retry_after: bool = False) -> Fault:
    """RATELIMITED until so many seconds after the answer."""

    def headers() -> Mapping[str, str]:
        said = {
            "X-RateLimit-Requests-Limit": "5000",
            "X-RateLimit-Requests-Remaining": "0",
            "X-RateLimit-Requests-Reset": str(int((time.time() + seconds) * 1000)),
        }
        return said | ({"Retry-After": str(round(seconds))} if retry_after else {})

    return _error(_rate_limited(), headers=headers)


def server_error(status: int = 502, *, effect: bool = False) -> Fault:
    """A proxy's page in place of an answer; perhaps after the request took effect."""
    page = f"<html><body><h1>{status}</h1></body></html>"
    reply = Reply(status=status, body=page, content_type="text/html")
    return Fault(effect=effect, reply=lambda: reply)


def cut(*, effect: bool) -> Fault:
    """The line is cut: before or after it took effect, which the client cannot know."""
    return Fault(effect=effect, cut=True)


def held(when: When = "after") -> Fault:
    """No answer until `release()`: a client that does not wait sees a time-out."""
    return Fault(hold=when)


def duplicate(entity: str, entity_id: str) -> Fault:
    return _error(conflict(entity, entity_id))


def permanent(message: str = "This cannot be done.") -> Fault:
    """An error of the user, that no repetition helps."""
    return _error(refused(message))


def failed(error: LinearError) -> Fault:
    """Any other of `errors.py`."""
    return _error(error)


def partial(path: str, message: str = "Internal server error") -> Fault:
    """Data with a hole, and an error that tells of it."""
    error = LinearError(
        message, code="INTERNAL_SERVER_ERROR", kind="internal error", user_error=False
    )
    told = {"message": message, "path": path.split("."), "extensions": error.extensions}
    return Fault(alter={path: None}, errors=[told])


def unknown(path: str, value: object = "somethingNew") -> Fault:
    """A value that we do not know yet, of an enum say."""
    return Fault(alter={path: value})


def missing(*paths: str) -> Fault:
    """Null, in optional fields."""
    return Fault(alter=dict.fromkeys(paths))


def _error(error: LinearError, *, headers: Callable[[], Mapping[str, str]] = dict) -> Fault:
    body = json.dumps({"data": None, **error.body()})
    return Fault(
        effect=False,
        reply=lambda: Reply(status=error.http_status, body=body, headers=headers()),
    )


def _key(at: Any, name: str) -> Any:
    return int(name) if isinstance(at, list) else name
