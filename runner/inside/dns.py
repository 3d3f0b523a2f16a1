"""DNS that gives each name an address of its own, so that the address a program dials tells the name it meant."""

import ipaddress
import struct
import threading

from policies.egress import canonical_host

NAMES_LIMIT = 4096
_FIRST = int(ipaddress.IPv4Address("127.64.0.1"))
_HEADER = struct.Struct(">6H")
_QUESTION = struct.Struct(">2H")
_TTL_SECONDS = 60
_A, _IN = 1, 1
_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP, _REFUSED = range(6)
_RESPONSE, _OPCODE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x7800, 0x0100, 0x0080
_LABEL_BYTES = 63
_NAME_BYTES = 255
_NAME_AT_QUESTION = b"\xc0\x0c"


class Names:
    """Names and their addresses; what was given once stays."""

    def __init__(self, *, limit: int = NAMES_LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def address(self, name: str) -> str | None:
        """None when there are too many names."""
        with self._lock:
            if name not in self._addresses and len(self._addresses) < self._limit:
                address = str(ipaddress.IPv4Address(_FIRST + len(self._addresses)))
                self._addresses[name] = address
                self._names[address] = name
            return self._addresses.get(name)

    def name(self, address: str) -> str:
        """Empty for an address that was not given out."""
        with self._lock:
            return self._names.get(address, "")


def answer(query: bytes, names: Names) -> bytes | None:
    """The reply to one message; None for what deserves none. Never raises."""
    if len(query) < _HEADER.size:
        return None
    ident, flags, questions, answers, *_ = _HEADER.unpack_from(query)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return _reply(ident, flags, code=_NOTIMP)
    question = _question(query) if questions == 1 and answers == 0 else None
    if question is None:
        return _reply(ident, flags, code=_FORMERR)
    name, end = question
    kind, family = _QUESTION.unpack_from(query, end)
    code, address = _look_up(name, kind=kind, family=family, names=names)
    asked = query[_HEADER.size : end + _QUESTION.size]
    return _reply(ident, flags, code=code, question=asked, address=address)


def _question(query: bytes) -> tuple[bytes, int] | None:
    """The name with dots, and where it ends; None if it is malformed or compressed."""
    labels: list[bytes] = []
    at = _HEADER.size
    while at < len(query) and query[at]:
        size = query[at]
        if size > _LABEL_BYTES or at + 1 + size - _HEADER.size > _NAME_BYTES:
            return None
        labels.append(query[at + 1 : at + 1 + size])
        at += 1 + size
    end = at + 1
    return (b".".join(labels), end) if end + _QUESTION.size <= len(query) else None


def _look_up(raw: bytes, *, kind: int, family: int, names: Names) -> tuple[int, str | None]:
    if family != _IN:
        return _REFUSED, None
    name = canonical_host(raw)
    if name is None:
        return _NXDOMAIN, None
    if kind != _A:
        return _NOERROR, None
    address = names.address(name)
    return (_NOERROR, address) if address else (_SERVFAIL, None)


def _reply(
    ident: int, flags: int, *, code: int, question: bytes = b"", address: str | None = None
) -> bytes:
    kept = flags & (_OPCODE | _RECURSION_DESIRED)
    out = _RESPONSE | _RECURSION_AVAILABLE | kept | code
    head = _HEADER.pack(ident, out, bool(question), bool(address), 0, 0)
    if address is None:
        return head + question
    packed = ipaddress.IPv4Address(address).packed
    record = struct.pack(">2HIH", _A, _IN, _TTL_SECONDS, len(packed)) + packed
    return head + question + _NAME_AT_QUESTION + record
