"""TLS on both sides of the gateway: as the host, for the agent; as a client that checks the name, for the host."""

import functools
import os
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable

HANDSHAKE_SECONDS = 10.0
LEAVES = 256
_PROTOCOLS = ["http/1.1"]


class Disguise:
    """Answers TLS as any host, with certificates of the run's own authority."""

    def __init__(self, leaf: Callable[[str], bytes], *, most: int = LEAVES) -> None:
        self._leaf = leaf
        self._most = most
        self._lock = threading.Lock()
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def accept(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        """Takes the socket over. Raises OSError, and closes it."""
        sock.settimeout(HANDSHAKE_SECONDS)
        try:
            return self._context(host).wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise

    def _context(self, host: str) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.pop(host, None) or _inward(self._leaf(host))
            self._contexts[host] = context
            if len(self._contexts) > self._most:
                self._contexts.popitem(last=False)
            return context


def _inward(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    context.num_tickets = 0
    # The ssl module reads certificates from files only; this one is in memory and has no name.
    fd = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def secure(sock: socket.socket, host: str) -> ssl.SSLSocket:
    """Takes the socket over; the server must prove that it is the host. Raises OSError, and closes it."""
    sock.settimeout(HANDSHAKE_SECONDS)
    try:
        return outward().wrap_socket(sock, server_hostname=host)
    except OSError:
        sock.close()
        raise


@functools.cache
def outward() -> ssl.SSLContext:
    """Made once: to read the system's certificates takes a while."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    return context


def problem(error: OSError) -> str:
    """What went wrong, in the words of the library."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
