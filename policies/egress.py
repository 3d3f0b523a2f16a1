"""Which host a run may reach. Standard library only: the gateway's image gets a copy.

Nothing here raises, whatever it is given: what cannot be read is denied.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Mode = Literal["http", "splice"]

# The last label starts with a letter, which no spelling of an IPv4 address does.
_HOST = re.compile(
    rb"(?=.{1,253}\Z)([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
_LONGEST_WITH_DOT = 254

_SCHEMES: Mapping[str, Mode] = MappingProxyType({"http": "http", "https": "splice"})
DEFAULT_PORTS: Mapping[int, Mode] = MappingProxyType({80: "http", 443: "splice"})


def canonical_host(raw: bytes) -> str | None:
    """The one spelling of a host name that is matched, resolved and logged; None if it is none."""
    if len(raw) > _LONGEST_WITH_DOT:
        return None
    lowered = raw.lower().removesuffix(b".")
    return lowered.decode("ascii") if _HOST.fullmatch(lowered) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRules:
    """Exact host names in their canonical spelling; no rule means no way out."""

    hosts: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    """Those of `hosts` that may resolve to private addresses."""
    ports: Mapping[int, Mode] = field(default_factory=lambda: DEFAULT_PORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What to dial, exactly."""

    host: str
    port: int
    mode: Mode
    rule: str
    private: bool
    """Pass it to `refused_address` for every address that the name resolves to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    reason: str


def decide(rules: EgressRules, *, scheme: str, host: str, port: int) -> Allow | Deny:
    """May this run open a connection to that host? `scheme` is `http` or `https` (TLS)."""
    name = canonical_host(host.encode("ascii", "replace"))
    if name is None:
        return Deny(reason="not a host name that could be allowed (addresses never are)")
    if name not in rules.hosts:
        return Deny(reason=f"{name} is not on the list of hosts for this repository")
    mode = rules.ports.get(port)
    if mode is None:
        return Deny(reason=f"port {port} is not open to any host")
    if _SCHEMES.get(scheme) != mode:
        return Deny(reason=f"port {port} does not speak this protocol")
    return Allow(
        host=name, port=port, mode=mode, rule=f"egress:{name}", private=name in rules.private
    )


def rules_from_json(data: object) -> EgressRules | None:
    """Rules from `{"egress": [...], "private": [...]}`; None if anything in it is not right.

    Other keys are not looked at. On None keep the rules there were, or refuse to start.
    """
    if not isinstance(data, dict):
        return None
    hosts, private = _hosts(data.get("egress")), _hosts(data.get("private", []))
    if hosts is None or private is None or not private <= hosts:
        return None
    return EgressRules(hosts=hosts, private=private)


def _hosts(names: object) -> frozenset[str] | None:
    if not isinstance(names, list | tuple):
        return None
    known = frozenset(name for name in names if isinstance(name, str) and _is_canonical(name))
    return known if all(isinstance(name, str) and name in known for name in names) else None


def _is_canonical(name: str) -> bool:
    return canonical_host(name.encode("ascii", "replace")) == name


_V4 = ipaddress.IPv4Network
_V6 = ipaddress.IPv6Network
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# `ipaddress.is_global` is not enough: it is true of ::127.0.0.1, 64:ff9b::7f00:1, 224.0.0.1 and others.
_NEVER: tuple[tuple[_Network, str], ...] = (
    (_V4("0.0.0.0/8"), "this network"),
    (_V4("100.100.100.200/32"), "cloud metadata"),
    (_V4("168.63.129.16/32"), "cloud metadata"),
    (_V4("169.254.0.0/16"), "link-local and cloud metadata"),
    (_V4("192.0.0.0/24"), "protocol assignments and cloud metadata"),
    (_V4("192.0.2.0/24"), "documentation"),
    (_V4("192.88.99.0/24"), "6to4 relay"),
    (_V4("198.18.0.0/15"), "benchmarking"),
    (_V4("198.51.100.0/24"), "documentation"),
    (_V4("203.0.113.0/24"), "documentation"),
    (_V4("224.0.0.0/3"), "multicast and reserved"),
    (_V6("fd00:ec2::/32"), "cloud metadata"),
    (_V6("fd20:ce::254/128"), "cloud metadata"),
    (_V6("2001::/23"), "protocol assignments and Teredo"),
    (_V6("2001:db8::/32"), "documentation"),
    (_V6("2002::/16"), "6to4"),
    (_V6("3fff::/20"), "documentation"),
)
_PRIVATE: tuple[tuple[_Network, str], ...] = (
    (_V4("10.0.0.0/8"), "private"),
    (_V4("100.64.0.0/10"), "carrier-grade NAT"),
    (_V4("127.0.0.0/8"), "loopback"),
    (_V4("172.16.0.0/12"), "private"),
    (_V4("192.168.0.0/16"), "private"),
    (_V6("::1/128"), "loopback"),
    (_V6("fc00::/7"), "private"),
)
_GLOBAL_V6 = _V6("2000::/3")


def refused_address(ip: str, *, private: bool = False) -> str | None:
    """Why this address must not be dialled, or None if it may be.

    With `private` (policy says so for the host) private networks and loopback are open;
    metadata, link-local, multicast and addresses that carry another one stay closed.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an IP address"
    if "%" in ip:
        return "an address with a zone"
    for network, reason in _NEVER:
        if address in network:
            return reason
    for network, reason in _PRIVATE:
        if address in network:
            return None if private else reason
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return "not a global unicast address"
    return None
