"""The client that is measured: standard library only, the same program on every way to the origin.

Arguments: host, port, what to dial (`HOST:PORT`, or nothing to look the host up), `connect` or `direct`, then
`bulk BYTES`, `small SECONDS CONNECTIONS` or `latency REQUESTS`. Prints one number: MB/s, requests/s, ms.
"""

import multiprocessing
import socket
import ssl
import sys
import time
from collections.abc import Sequence

BLOCK = 1 << 20


def connect(words: Sequence[str]) -> ssl.SSLSocket:
    host, port, dialled, way = words[:4]
    place = dialled.rsplit(":", 1) if dialled else [host, port]
    sock = socket.create_connection((place[0], int(place[1])), timeout=60)
    if way == "connect":
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise SystemExit(head.decode("latin-1"))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # How fast, not to whom: each way has another authority.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(sock, server_hostname=host)


def ask(sock: ssl.SSLSocket, request: bytes) -> bytes:
    """The answer's beginning with the whole head."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the connection ended")
        data += more
    return data


def request(words: Sequence[str], path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {words[0]}:{words[1]}\r\n\r\n".encode()


def bulk(words: Sequence[str], size: int) -> float:
    with connect(words) as sock:
        data = ask(sock, request(words, f"/bulk/{size}"))
        got = len(data.partition(b"\r\n\r\n")[2])
        buffer = bytearray(BLOCK)
        begun = time.perf_counter()
        while got < size:
            count = sock.recv_into(buffer)
            if not count:
                raise SystemExit("the connection ended")
            got += count
        return size / (time.perf_counter() - begun) / 1e6


def small(words: Sequence[str], seconds: float) -> int:
    """A proxy that ends a connection is asked on another one."""
    asked = request(words, "/small")
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            with connect(words) as sock:
                while time.perf_counter() < end:
                    ask(sock, asked)
                    count += 1
        except OSError:
            continue
    return count


def latency(words: Sequence[str], count: int) -> float:
    with connect(words) as sock:
        asked, times = request(words, "/small"), []
        for _ in range(count):
            begun = time.perf_counter()
            ask(sock, asked)
            times.append(time.perf_counter() - begun)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> None:
    words, what = sys.argv[1:5], sys.argv[5]
    if what == "bulk":
        print(bulk(words, int(sys.argv[6])))
    elif what == "latency":
        print(latency(words, int(sys.argv[6])))
    else:
        seconds, connections = float(sys.argv[6]), int(sys.argv[7])
        with multiprocessing.get_context("fork").Pool(connections) as pool:
            print(sum(pool.starmap(small, [(words, seconds)] * connections)) / seconds)


if __name__ == "__main__":
    main()
