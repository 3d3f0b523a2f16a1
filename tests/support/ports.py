"""Ports for servers that cannot be given 0."""

import random
import socket

RANGE = range(20_000, 32_000)
"""Below what the kernel hands out itself, so that no client takes one between here and its use."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has, neither for TCP nor for UDP."""
    for port in random.sample(RANGE, 100):
        if all(_is_free(kind, host, port) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            return port
    raise OSError(f"no free port on {host} in {RANGE}")


def _is_free(kind: socket.SocketKind, host: str, port: int) -> bool:
    with socket.socket(type=kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
