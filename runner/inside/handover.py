"""Takes sockets from the acceptor, with what it says about each."""

import json
import os
import socket
import struct
from pathlib import Path

from runner.inside.audit import Dialled

_BACKLOG = 128
_MESSAGE_BYTES = 1024
_HAND_SECONDS = 5.0
_CREDENTIALS = struct.Struct("3i")


def uid_of(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def take(peer: socket.socket) -> tuple[socket.socket, Dialled] | None:
    """The socket and where it was going; None if the message is not what the acceptor sends."""
    peer.settimeout(_HAND_SECONDS)
    message, fds, _flags, _address = socket.recv_fds(peer, _MESSAGE_BYTES, 1)
    dialled = _dialled(message)
    if len(fds) != 1 or dialled is None:
        for fd in fds:
            os.close(fd)
        return None
    return socket.socket(fileno=fds[0]), dialled


def _dialled(message: bytes) -> Dialled | None:
    try:
        data = json.loads(message)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    host, port = data.get("host"), data.get("port")
    if not isinstance(host, str) or type(port) is not int:
        return None
    return Dialled(host=host, port=port)


def listen(path: Path) -> socket.socket:
    """A socket that accepts from the moment its name is there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(fresh))
    fresh.chmod(0o666)
    listener.listen(_BACKLOG)
    fresh.replace(path)
    return listener
