"""Attacks on how the gateway reads a request: hosts, ports, targets, framing, headers, paths."""

from tests.adversarial.raw import (
    ALLOWED,
    LIMITED,
    NOT_LISTED,
    OUTSIDE,
    READING,
    RawCase,
    Try,
    ask,
    tries,
)

CHUNKS = "Transfer-Encoding: chunked"
LINE = "GET / HTTP/1.1"
PUT = "POST / HTTP/1.1"

CASES = (
    RawCase(
        id="17",
        tried="numbers for addresses in every spelling that libraries take, in the Host header",
        must="400, nothing is dialled",
        record="no host name",
        tries=tries(
            ask(host=host)
            for host in (
                "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "0251.0376.0251.0376", "127.0.0.0x1",
                "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25lo]", "0x7f000001",
            )
        ),
    ),
    RawCase(
        id="18a",
        tried="an allowed name in capitals, with a dot at its end",
        must="passes as the one spelling that is matched, dialled and logged",
        record="",
        tries=tries(
            (ask(host="ALLOWED.example.com"), ask(host=f"{ALLOWED}."), ask(host=f"{ALLOWED}.:80")),
            status=200, verdict="allow", arrives=(b"GET / HTTP/1.1",),
        ),
    ),
    RawCase(
        id="18b",
        tried="an allowed name with NUL, percent, line end, tab, space, other letters, a second name",
        must="400",
        record="",
        tries=(
            Try(send=ask(host=f"{ALLOWED} "), status=200, verdict="allow", arrives=(b"GET / HTTP/1.1",)),
            *tries(
                (
                    ask(host=f"{ALLOWED}%00.evil.example"), ask(host=f"evil.example%2f.{ALLOWED}"), ask(host="%61llowed.example.com"),
                    ask(host=f"{ALLOWED}, evil.example"), ask(host=f"{ALLOWED}@evil.example"), ask(host="all\u00f8wed.example.com"),
                    ask(host=f"{ALLOWED}.."), ask(host=f".{ALLOWED}"), ask(host="allowed"), ask(host="allowed\u3002example.com".encode()),
                    ask(host=""), ask(host=f"{ALLOWED}\tx"),
                ), record="no host name",
            ),
            *tries((ask(host=f"evil\0.{ALLOWED}"), ask(host=f"{ALLOWED}\r\n evil.example"), ask(host=f"{ALLOWED}\rX: y")), record="malformed"),
        ),
    ),
    RawCase(
        id="19",
        tried="ports that are none, or others than the one that was dialled",
        must="400, or 403 where it is a port",
        record="no host name",
        tries=(
            *tries(ask(host=f"{ALLOWED}:{port}") for port in ("0", "443;", "+443", "0443", "65536443", "-1", "http", "80:80", " 80")),
            *tries((ask(host=f"{ALLOWED}:{port}") for port in ("22", "25", "2375", "6379", "443", "65979")), status=403, record="another host"),
        ),
    ),
    RawCase(
        id="20",
        tried="CONNECT with credentials, a scheme, a path, and plainly",
        must="there is no proxy: 400, 405",
        record="",
        tries=(
            *tries(
                (ask(line=f"CONNECT {to} HTTP/1.1") for to in (f"user:pw@{ALLOWED}:443", f"http://{ALLOWED}:443", f"{ALLOWED}:443", "192.0.2.1:443")),
                record="the request line",
            ),
            Try(send=ask(line="CONNECT / HTTP/1.1"), status=405, record="no proxy"),
        ),
    ),
    RawCase(
        id="21",
        tried="absolute targets and other schemes: https, http, ftp, file, gopher, ws, urn, `*`",
        must="400",
        record="the request line",
        tries=tries(
            ask(line=f"GET {target} HTTP/1.1")
            for target in (
                f"https://{ALLOWED}/", f"http://{OUTSIDE}/", f"ftp://{ALLOWED}/", "file:///etc/passwd", f"gopher://{ALLOWED}/_x",
                f"ws://{ALLOWED}/", "urn:x:y", "*", f"{ALLOWED}/", f"@{ALLOWED}/",
            )
        ),
    ),
    RawCase(
        id="8a",
        tried="UDP through HTTP: CONNECT-UDP and capsules",
        must="400, 403: only requests that can be judged",
        record="",
        tries=(
            Try(send=ask(line=f"CONNECT-UDP {ALLOWED}:443 HTTP/1.1"), record="the request line"),
            Try(
                send=ask("Upgrade: connect-udp", "Capsule-Protocol: ?1", line="GET /.well-known/masque/udp/192.0.2.1/443/ HTTP/1.1"),
                host=OUTSIDE, status=403, record=NOT_LISTED,
            ),
        ),
    ),
    RawCase(
        id="24a",
        tried="HTTP/2 by prior knowledge, HTTP/1.0, HTTP/0.9, another version",
        must="400",
        record="",
        tries=(
            *tries((ask(line=f"GET / {version}") for version in ("HTTP/1.0", "HTTP/2.0", "HTTP/1.10", "http/1.1", "")), record="the request line"),
            Try(send=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), record="the request line"),
            Try(send=b"GET /\r\n\r\n", record="the request line"),
        ),
    ),
    RawCase(
        id="24b",
        tried="`Upgrade: h2c` with HTTP2-Settings, and other upgrades",
        must="the offer does not go on; the request is judged as it is",
        record="",
        tries=tries(
            (ask("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Connection: upgrade, http2-settings"), ask("Upgrade: TLS/1.0")),
            status=200, verdict="allow", arrives=(b"GET / HTTP/1.1",),
        ),
    ),
    RawCase(
        id="25",
        tried="a WebSocket, in every spelling of its header",
        must="403",
        record="WebSocket",
        tries=tries(
            (ask(f"Upgrade: {value}", "Sec-WebSocket-Key: eA==") for value in ("websocket", "WebSocket", "h2c, websocket", "x;websocket")), status=403
        ),
    ),
    RawCase(
        id="26a",
        tried="two answers to where the body ends: length and chunks, two lengths, lists, signs, odd codings",
        must="400, 501; nothing of it is forwarded",
        record="",
        tries=(
            *tries(
                (ask(*headers, line=PUT, body=b"hello") for headers in (("Content-Length: 5", CHUNKS), (CHUNKS, "Content-Length: 5"))),
                record="exclude each other",
            ),
            *tries(
                (ask(*headers, line=PUT, body=b"hello") for headers in (("Content-Length: 5", "Content-Length: 5"), ("Content-Length: 5", "Content-Length: 6"))),
                record="content-length must be given once",
            ),
            *tries(
                (ask(f"Content-Length: {n}", line=PUT, body=b"hello") for n in ("+5", "-5", "5,5", "0x5", "5 5", "", "5\t5", "99999999999999999999")),
                record="Content-Length is no number",
            ),
            *tries(
                (ask(f"Transfer-Encoding: {c}", line=PUT, body=b"0\r\n\r\n") for c in ("chunked, identity", "identity", "chunked;x", "gzip, chunked", "xchunked")),
                status=501, record="transfer coding",
            ),
            Try(send=ask("Transfer-Encoding:\x0bchunked", line=PUT, body=b"0\r\n\r\n"), record="malformed"),
            Try(send=ask("Transfer-Encoding : chunked", line=PUT, body=b"0\r\n\r\n"), record="malformed"),
            Try(send=ask(CHUNKS, "Transfer-Encoding: identity", line=PUT, body=b"0\r\n\r\n"), record="transfer-encoding must be given once"),
        ),
    ),
    RawCase(
        id="26b",
        tried="chunks with extensions, signs, 0x, spaces, a huge size, a bare LF, no end, trailers",
        must="the connection ends; no server sees a whole request",
        record="",
        tries=tuple(
            Try(send=ask(CHUNKS, line=PUT, body=chunks), record="chunk")
            for chunks in (
                b"5;x=y\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n",
                b"5\nhello\n0\n\n", b"FFFFFFFFF\r\nhello", b"5\r\nhelloX0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n",
            )
        ),
    ),
    RawCase(
        id="27",
        tried="bare LF, folded lines, NUL, CR, space before the colon, no name, an empty line first",
        must="400",
        record="",
        tries=(
            *tries((b"GET / HTTP/1.1\nHost: allowed.example.com\n\n", ask("X: a\nY: b"), b"\r\n" + ask()), record="CRLF"),
            *tries(
                (ask("X: a", " folded"), ask("X: a\0b"), ask("X: a\rb"), ask("X : a"), ask(": a"), ask("X Y: a"), ask("X(Y): a"), ask("no colon"), ask("X: \x7f")),
                record="malformed",
            ),
            *tries((ask(line=b"GET  / HTTP/1.1"), ask(line=b"get / HTTP/1.1"), ask(line=b"G\0T / HTTP/1.1"), ask(line=b"GET / HTTP/1.1 "), ask(line=b"GET /\x80 HTTP/1.1")), record="the request line"),
        ),
    ),
    RawCase(
        id="27b",
        tried="a head of a megabyte, ten thousand headers, a target beyond 8 KiB",
        must="431, 400",
        record="",
        tries=(
            Try(send=ask("X: " + "a" * (1 << 20)), status=431, record="too long"),
            Try(send=ask(*(f"X{n}: a" for n in range(10_000))), status=431, record="too long"),
            Try(send=ask(*(f"X{n}: a" for n in range(150))), status=431, record="too many headers"),
            Try(send=ask(line=f"GET /{'a' * 9000} HTTP/1.1"), record="the request line"),
        ),
    ),
    RawCase(
        id="28",
        tried="a second request on the connection of an allowed one: another path, host, method",
        must="each is judged; the second gets 403",
        record="",
        tries=(
            Try(
                send=b"GET /simple/a HTTP/1.1\r\nHost: limited.example.com\r\n\r\n" + ask(line="GET /admin HTTP/1.1", host=LIMITED),
                host=LIMITED, status=200, arrives=(b"GET /simple/a HTTP/1.1",), record="this path is not allowed",
            ),
            Try(
                send=b"GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n" + ask(host=OUTSIDE),
                status=200, arrives=(b"GET / HTTP/1.1",), record="another host",
            ),
            Try(
                send=b"GET / HTTP/1.1\r\nHost: registry.example.com\r\n\r\n" + ask(line="PUT /x HTTP/1.1", host=READING),
                host=READING, status=200, arrives=(b"GET / HTTP/1.1",), record="PUT is not allowed",
            ),
            Try(
                send=b"POST / HTTP/1.1\r\nHost: allowed.example.com\r\nContent-Length: 4\r\n\r\nbody" + ask(host=OUTSIDE),
                status=200, arrives=(b"POST / HTTP/1.1",), record="another host",
            ),
        ),
    ),
    RawCase(
        id="29",
        tried="paths with `..`, `//`, `/./`, backslash, `;`, `#`, encoded dots, slashes and letters, bytes beyond ASCII",
        must="400, or 403 where paths are limited",
        record="two ways",
        tries=(
            *tries(
                (
                    ask(line=f"GET {path} HTTP/1.1", host=LIMITED)
                    for path in (
                        "/simple/../admin", "/simple/%2e%2e/admin", "/simple/%252e%252e/admin", "//simple/a", "/simple//a", "/simple/./a", "/simple/a\\..\\b",
                        "/simple/a;x", "/simple/..", "/simple/%2E%2E", "/%73imple/a", "/simple/%5c..", "/simple/%00", "/simple/%zz", "/simple/a#b", "/simple/%0d%0aX",
                        "/simple/.%2e/admin", "/simple/x%",
                    )
                ),
                host=LIMITED,
            ),
            Try(send=ask(line="GET /simple/..%2fadmin HTTP/1.1", host=LIMITED), host=LIMITED, status=403, record="encoded slash"),
            Try(send=ask(line="GET /Simple/a HTTP/1.1", host=LIMITED), host=LIMITED, status=403, record="this path"),
            Try(send=ask(line="GET /simple HTTP/1.1", host=LIMITED), host=LIMITED, status=403, record="this path"),
            Try(send=ask(line=b"GET /simple/\xc0\xae HTTP/1.1", host=LIMITED), host=LIMITED, record="the request line"),
        ),
    ),
    RawCase(
        id="x1",
        tried="headers that the next server might obey: X-HTTP-Method-Override, X-Original-URL, Forwarded",
        must="the request that arrives is the one that was judged; policy holds for its method and path",
        record="POST is not allowed",
        tries=(
            Try(send=ask("X-HTTP-Method-Override: GET", "Content-Length: 0", line=PUT, host=READING), host=READING, status=403),
            Try(send=ask("X-Original-URL: /simple/a", line="GET /admin HTTP/1.1", host=LIMITED), host=LIMITED, status=403, record="this path"),
        ),
    ),
    RawCase(
        id="x2",
        tried="`Connection` lists Host or Content-Length, so that the next hop would drop them",
        must="400",
        record="Connection lists",
        tries=tries((ask("Connection: host"), ask("Connection: Content-Length", "Content-Length: 0", line=PUT), ask("Connection: x, transfer-encoding"))),
    ),
    RawCase(
        id="x3",
        tried="two Host headers, none, and one that another header hides",
        must="400",
        record="",
        tries=(
            *tries((ask(f"Host: {OUTSIDE}"), ask(f"host: {ALLOWED}")), record="host must be given once"),
            Try(send=b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", record="no host name"),
            Try(send=b"GET / HTTP/1.1\r\nX-Forwarded-Host: allowed.example.com\r\n\r\n", record="no host name"),
        ),
    ),
    RawCase(
        id="x4",
        tried="`Expect` with something else than 100-continue, or twice",
        must="417, 400",
        record="",
        tries=(
            Try(send=ask("Expect: 200-ok"), status=417, record="100-continue"),
            Try(send=ask("Expect: 100-continue", "Expect: 100-continue"), record="expect must be given once"),
        ),
    ),
    RawCase(
        id="x5",
        tried="a request smuggled in the body of another",
        must="it arrives as the body it is, never as a request",
        record="",
        tries=(
            Try(
                send=ask("Content-Length: 60", line=PUT, body=b"GET /admin HTTP/1.1\r\nHost: outside.example.com\r\n\r\n".ljust(60)),
                status=200, verdict="allow", arrives=(b"POST / HTTP/1.1",),
            ),
        ),
    ),
)  # fmt: skip
