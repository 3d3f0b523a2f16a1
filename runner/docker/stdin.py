"""A container's standard input, kept open between lines and opened again when it broke."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

import docker

from runner.errors import SandboxLostError

# A container that does not read its input for this long is stuck.
_WRITE_SECONDS: Final = 20.0
_ATTACH: Final = {"stdin": 1, "stdout": 0, "stderr": 0, "stream": 1}


class Stdin:
    """Blocking; safe from several threads."""

    def __init__(self, api: Callable[[], docker.APIClient], name: str) -> None:
        self._api = api
        self._name = name
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def write(self, line: bytes) -> None:
        """Write a line whole. Raises SandboxLostError, and what the docker package raises."""
        with self._lock:
            if self._socket is None or _hung_up(self._socket):
                self._open()
            try:
                self._send(line)
            except OSError:
                self._open()
                # What was broken off may have left half a line: an end of line makes it harmless.
                self._send(b"\n" + line)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _send(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.sendall(data)

    def _open(self) -> None:
        self._drop()
        api = self._api()
        # Docker takes input for a container that has ended, and loses it.
        if not api.inspect_container(self._name)["State"]["Running"]:
            raise SandboxLostError(f"{self._name} does not run")
        attached = api.attach_socket(self._name, params=_ATTACH)
        try:
            self._socket = socket.socket(fileno=os.dup(attached.fileno()))
        finally:
            attached._response.close()  # noqa: SLF001 - else the connection behind it stays open
        self._socket.settimeout(_WRITE_SECONDS)

    def _drop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _hung_up(connection: socket.socket) -> bool:
    """True if Docker closed the connection: nothing is ever received on it but its end."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
