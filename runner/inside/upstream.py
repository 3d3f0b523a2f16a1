"""TLS with the server behind a connection."""

import socket

from policies.connections import Upstream
from runner.inside.tls import secure


def secured(sock: socket.socket, upstream: Upstream) -> socket.socket:
    """TLS with the server that has this name, where the upstream speaks it. Raises OSError, and closes the socket."""
    return sock if upstream.scheme == "http" else secure(sock, upstream.host)
