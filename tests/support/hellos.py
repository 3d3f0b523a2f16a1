"""ClientHellos as OpenSSL makes them, without a socket."""

import contextlib
import ssl


def client_hello(host: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most `size` bytes."""
    body = hello[5:]
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(hello[:3] + len(part).to_bytes(2, "big") + part for part in parts)


def with_extension(hello: bytes, kind: int, content: bytes = b"") -> bytes:
    """The hello with one more extension at its end."""
    added = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    body = bytearray(hello[9:])
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    length = int.from_bytes(body[at : at + 2], "big") + len(added)
    body[at : at + 2] = length.to_bytes(2, "big")
    body += added
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return hello[:3] + len(message).to_bytes(2, "big") + message
