"""A container's standard input, kept open between lines and opened again when it broke."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final

import docker

from runner.errors import SandboxLostError

# A container that does not read its input for this long is stuck.
_WRITE_SECONDS: Final = 20.0
_ATTACH: Final = {"stdin": 1, "stdout": 0, "stderr": 0, "stream": 1}


class Inputs:
    """The open inputs of a host's containers, whichever handle writes. Blocking; safe from several threads."""

    def __init__(self, api: Callable[[], docker.APIClient]) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._open: dict[str, _Input] = {}

    def write(self, name: str, line: bytes) -> None:
        """Write a line whole. Raises SandboxLostError, and what the docker package raises."""
        with self._lock:
            found = self._open.setdefault(name, _Input(self._api, name))
        found.write(line)

    def close(self, names: Iterable[str] | None = None) -> None:
        """Those of these containers, or all."""
        with self._lock:
            closing = [
                self._open.pop(n)
                for n in list(self._open if names is None else names)
                if n in self._open
            ]
        for found in closing:
            found.close()


class _Input:
    def __init__(self, api: Callable[[], docker.APIClient], name: str) -> None:
        self._api = api
        self._name = name
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def write(self, line: bytes) -> None:
        with self._lock:
            # Docker takes input for a container that has ended, and loses it.
            if not self._api().inspect_container(self._name)["State"]["Running"]:
                raise SandboxLostError(f"{self._name} does not run")
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
        attached = self._api().attach_socket(self._name, params=_ATTACH)
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
    """True if Docker closed the connection: nothing is ever to be read on it but its end."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return bool(poller.poll(0))
