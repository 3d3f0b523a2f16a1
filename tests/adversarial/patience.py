"""Attacks that take time, or many connections; and those on what a gateway does without a policy."""

from typing import Final

from tests.adversarial.case import Case

SLOW: Final = Case(
    id="32a",
    tried="a request head of one byte a second",
    must="ended after ten seconds, 408",
    record="took too long",
)
SILENT: Final = Case(
    id="32b",
    tried="seventy connections that say nothing; half-open TLS",
    must="each is ended after five seconds; another request is served",
    record="took too long",
)
FLIPPING: Final = Case(
    id="16",
    tried="a name that changes between public and private under many connections at once",
    must="no private address is ever dialled",
    record="resolves to 127.0.0.1",
)
BIG: Final = Case(
    id="32c",
    tried="more up than a host may get, in chunks without an announced length",
    must="ended at the limit",
    record="used up",
)
SPLIT: Final = Case(
    id="22b",
    tried="a TLS hello in one-byte segments and records, and one that never ends",
    must="understood; ended",
    record="another host",
)
EMPTY: Final = Case(
    id="33b",
    tried="no policy, an empty one, one with an error",
    must="nothing listens before there is a policy; empty denies; an error in the first ends the gateway",
    record="the gateway's last line says why",
)
RELOAD: Final = Case(
    id="33c",
    tried="a later policy with an error",
    must="the last good one stays",
    record="The policy stays as it was",
)
CLIENTS: Final = Case(
    id="x19",
    tried="a client that trusts nobody, old TLS, another protocol in ALPN",
    must="the handshake ends; HTTP/1.1 is all that is agreed on",
    record="ended the TLS handshake",
)
CASES: Final = (FLIPPING, SPLIT, SLOW, SILENT, BIG, EMPTY, RELOAD, CLIENTS)
