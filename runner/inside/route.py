"""From an allowed name to a connection: resolve, check every address, dial one that was checked."""

import queue
import socket
from collections.abc import Callable, Sequence
from functools import partial

from policies.addresses import refused_address
from policies.egress import Allow
from runner.inside.errors import EgressDeniedError
from runner.inside.splice import background

Resolve = Callable[[str, int], Sequence[str]]
Dial = Callable[[str, int], socket.socket]

_RESOLVE_SECONDS = 5.0
_DIAL_SECONDS = 10.0
_ADDRESSES = 4


def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a name, IPv4 first. Raises OSError, also when it takes too long."""
    answers: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()
    background(partial(_ask, host, port, answers))
    try:
        found = answers.get(timeout=_RESOLVE_SECONDS)
    except queue.Empty as exc:
        raise TimeoutError(f"{host} could not be resolved in time") from exc
    if isinstance(found, OSError):
        raise found
    return found


def _ask(host: str, port: int, answers: "queue.SimpleQueue[Sequence[str] | OSError]") -> None:
    flags = socket.AI_ADDRCONFIG | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, str(port), type=socket.SOCK_STREAM, flags=flags)
    except OSError as exc:
        answers.put(exc)
    except UnicodeError:
        answers.put(OSError(f"{host} cannot be resolved"))
    else:
        found.sort(key=lambda info: info[0] != socket.AF_INET)
        answers.put(list(dict.fromkeys(str(info[4][0]) for info in found)))


def dial(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=_DIAL_SECONDS)


def checked(allow: Allow, *, resolve: Resolve) -> Sequence[str]:
    """The addresses of an allowed name if all of them may be dialled. Raises EgressDeniedError."""
    try:
        addresses = resolve(allow.host, allow.port)
    except OSError as exc:
        raise EgressDeniedError(f"{allow.host} does not resolve", rule=allow.rule) from exc
    if not addresses:
        raise EgressDeniedError(f"{allow.host} does not resolve", rule=allow.rule)
    for address in addresses:
        reason = refused_address(address, private=allow.private, named=allow.addresses)
        if reason is not None:
            said = f"{allow.host} resolves to {address}, which is {reason}"
            raise EgressDeniedError(said, rule=allow.rule)
    return addresses[:_ADDRESSES]


def connect(addresses: Sequence[str], port: int, *, dial: Dial) -> tuple[str, socket.socket]:
    """The first address that answers. Raises OSError."""
    failure: OSError = ConnectionError("there is no address")
    for address in addresses:
        try:
            return address, dial(address, port)
        except OSError as exc:
            failure = exc
    raise failure
