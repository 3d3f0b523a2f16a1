"""Which addresses a name may lead to. Standard library only: see egress.py.

Nothing here raises, whatever it is given.
"""

import ipaddress
from collections.abc import Container, Iterable

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
    (_V4("192.88.99.0/24"), "6to4 relay"),
    (_V4("224.0.0.0/3"), "multicast and reserved"),
    (_V6("fd00:ec2::/32"), "cloud metadata"),
    (_V6("fd20:ce::254/128"), "cloud metadata"),
    (_V6("2001::/23"), "protocol assignments and Teredo"),
    (_V6("2002::/16"), "6to4"),
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
# No host of the public has one of these, but a closed network may use them as if they were private.
_UNUSED: tuple[tuple[_Network, str], ...] = (
    (_V4("192.0.2.0/24"), "documentation"),
    (_V4("198.18.0.0/15"), "benchmarking"),
    (_V4("198.51.100.0/24"), "documentation"),
    (_V4("203.0.113.0/24"), "documentation"),
    (_V6("2001:db8::/32"), "documentation"),
    (_V6("3fff::/20"), "documentation"),
)
_GLOBAL_V6 = _V6("2000::/3")


def refused_address(ip: str, *, private: bool = False, named: Container[str] = ()) -> str | None:
    """Why this address must not be dialled, or None if it may be.

    With `private` (policy says so for the host) private networks and loopback are open, and what is `named` (see
    `is_nameable`) is open by itself; metadata, link-local, multicast and addresses that carry another one stay closed.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an IP address"
    if "%" in ip:
        return "an address with a zone"
    closed = _reason(address, _NEVER)
    if closed is not None:
        return closed
    for networks, opened in ((_PRIVATE, private), (_UNUSED, False)):
        reason = _reason(address, networks)
        if reason is not None:
            return None if opened or str(address) in named else reason
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return "not a global unicast address"
    return None


def is_nameable(ip: str) -> bool:
    """An address that is refused, but open to a rule that names it: spelled the one way, private or of no public use."""
    if refused_address(ip) is None or refused_address(ip, named=(ip,)) is not None:
        return False
    return str(ipaddress.ip_address(ip)) == ip


def _reason(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Iterable[tuple[_Network, str]]
) -> str | None:
    return next((reason for network, reason in networks if address in network), None)
