"""TLS with the server behind a connection."""

import functools
import socket
import ssl

from policies.connections import Upstream


def secured(sock: socket.socket, upstream: Upstream) -> socket.socket:
    """TLS with the server that has this name, where the upstream speaks it. Raises OSError, and closes the socket."""
    if upstream.scheme == "http":
        return sock
    try:
        return _context().wrap_socket(sock, server_hostname=upstream.host)
    except OSError:
        sock.close()
        raise


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
