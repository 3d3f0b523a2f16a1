"""What a run may reach: host, port, method, path. Standard library only: the gateway's image gets a copy.

Nothing here raises, whatever it is given: what cannot be read is denied.
"""

import re
from dataclasses import dataclass
from typing import Literal

from policies.addresses import is_nameable

Scheme = Literal["http", "https"]
Mode = Literal["inspect", "splice"]

# The last label starts with a letter, which no spelling of an IPv4 address does.
_HOST = re.compile(
    rb"(?=.{1,253}\Z)([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
)
_LONGEST_WITH_DOT = 254
_PORT = re.compile(r"(https?):([1-9][0-9]{0,4})")
_HIGHEST_PORT = 65535
METHOD = re.compile(r"[A-Z]{1,20}")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY = "*."

# Visible ASCII without what servers and proxies read in different ways: backslash, semicolon, fragment, empty segments,
# `.` and `..`, and letters, digits, dots or percent signs in disguise. An encoded slash is for `decide` to judge.
_PLAIN = r"[!\"$&-.0-:<->@-\[\]-~]"
_ENCODED = (
    r"%(?!0|1|7f|2e|5c|3[0-9]|4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]|25(?:2e|2f|5c|25))[0-9a-f]{2}"
)
_PATH = re.compile(rf"(?:/(?!\.\.?(?:/|\Z))(?:{_PLAIN}|{_ENCODED})+)*/?", re.IGNORECASE)
PATH_CHARACTERS = 8192

DEFAULT_PORTS: tuple[tuple[Scheme, int], ...] = (("https", 443), ("http", 80))
UPLOAD_BYTES = 50_000_000
READING_UPLOAD_BYTES = 5_000_000
"""For rules that only read: enough for the heads of some ten thousand requests."""


def canonical_host(raw: bytes) -> str | None:
    """The one spelling of a host name that is matched, resolved and logged; None if it is none."""
    if len(raw) > _LONGEST_WITH_DOT:
        return None
    lowered = raw.lower().removesuffix(b".")
    return lowered.decode("ascii") if _HOST.fullmatch(lowered) else None


def is_canonical_path(path: str) -> bool:
    """True if all readers of the path, which has no query, find the same segments in it."""
    return (
        path.startswith("/") and len(path) <= PATH_CHARACTERS and _PATH.fullmatch(path) is not None
    )


def is_host_pattern(text: str) -> bool:
    """A canonical name, or `*.` and one: any name below it, but not itself."""
    name = text.removeprefix(_ANY)
    return canonical_host(name.encode("ascii", "replace")) == name


def is_path_pattern(text: str) -> bool:
    """A path, or the beginning of paths and `*`."""
    start = text.removesuffix("*")
    return "*" not in start and not _hides_a_slash(start) and is_canonical_path(start)


def parse_port(text: str) -> tuple[Scheme, int] | None:
    """From `https:443`."""
    match = _PORT.fullmatch(text)
    if match is None or int(match[2]) > _HIGHEST_PORT:
        return None
    return ("https" if match[1] == "https" else "http"), int(match[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """One way out. In mode `splice` TLS passes unread, so methods and paths count for its plain ports only."""

    host: str
    """As `is_host_pattern` wants it."""
    ports: tuple[tuple[Scheme, int], ...] = DEFAULT_PORTS
    methods: frozenset[str] | None = None
    """None: every method."""
    paths: tuple[str, ...] | None = None
    """As `is_path_pattern` wants them; None: every path."""
    mode: Mode = "inspect"
    private: bool = False
    """The name may resolve to a private address."""
    addresses: frozenset[str] = frozenset()
    """Those it may resolve to although they are not public, as `is_nameable` wants them."""
    upload: int | None = None
    """Bytes that a run may send there; None leaves it to what the rule is for."""
    source: Literal["egress", "allowed"] = "egress"
    """Where it comes from: the policy, or people who were asked."""

    @property
    def name(self) -> str:
        return f"{self.source}:{self.host}"

    @property
    def upload_bytes(self) -> int:
        if self.upload is not None:
            return self.upload
        reading = self.methods is not None and self.methods <= _READING
        return READING_UPLOAD_BYTES if reading else UPLOAD_BYTES

    @property
    def reaches_inside(self) -> bool:
        """The name may lead to what is not public."""
        return self.private or bool(self.addresses)

    @property
    def closeness(self) -> int:
        """The more of a name a rule says, the closer it is to it; a whole name is closest."""
        return len(self.host) if self.host.startswith(_ANY) else _LONGEST_WITH_DOT

    def covers(self, host: str) -> bool:
        if self.host.startswith(_ANY):
            return host.endswith(self.host[1:])
        return host == self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRules:
    """No rule means no way out."""

    rules: tuple[HostRule, ...] = ()

    @property
    def ports(self) -> frozenset[int]:
        """Where anything may go at all, and where what is denied is told why."""
        ports = (port for rule in self.rules for _, port in rule.ports)
        return frozenset(ports) | {port for _, port in DEFAULT_PORTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What to dial, exactly."""

    host: str
    port: int
    scheme: Scheme = "https"
    mode: Mode = "inspect"
    rule: str
    private: bool
    addresses: frozenset[str] = frozenset()
    """Pass both to `refused_address` for every address that the name resolves to."""
    upload: int = UPLOAD_BYTES
    """Bytes that a run may send to this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    reason: str
    rule: str = ""
    """The rule that came nearest."""


def decide(
    rules: EgressRules, *, method: str, scheme: str, host: str, port: int, path: str
) -> Allow | Deny:
    """May this run make that request? `scheme` is `http` or `https`; the path has no query."""
    name = canonical_host(host.encode("ascii", "replace"))
    if name is None:
        return Deny(reason="not a host name that could be allowed (addresses never are)")
    if not METHOD.fullmatch(method) or not is_canonical_path(path):
        return Deny(reason="the request has a spelling that could be read in two ways")
    nearest = Deny(reason=f"{name} is not on the list of hosts for this repository")
    passed = -1
    for rule in rules.rules:
        if not rule.covers(name):
            continue
        tests = _tests(rule, method=method, scheme=scheme, port=port, path=path)
        failed = next(((i, said) for i, (holds, said) in enumerate(tests) if not holds), None)
        if failed is None:
            return _allow(rule, host=name, scheme=scheme, port=port)
        if failed[0] > passed:
            passed, nearest = failed[0], Deny(reason=failed[1], rule=rule.name)
    return nearest


def _tests(
    rule: HostRule, *, method: str, scheme: str, port: int, path: str
) -> tuple[tuple[bool, str], ...]:
    """What a request must fulfil, in the order in which a person wants to hear of it."""
    methods, paths = rule.methods, rule.paths
    return (
        (port in {number for _, number in rule.ports}, f"port {port} is not open to {rule.host}"),
        ((scheme, port) in rule.ports, f"port {port} of {rule.host} does not speak this protocol"),
        (
            rule.mode == "inspect" or scheme == "http",
            f"TLS to {rule.host} passes unread, so no single request can be judged",
        ),
        (
            methods is None or method in methods,
            f"{method} is not allowed to {rule.host}, only {', '.join(sorted(methods or ()))}",
        ),
        (
            paths is None or not _hides_a_slash(path),
            f"an encoded slash is not allowed to {rule.host}, which is limited to some paths",
        ),
        (
            paths is None or any(_matches(path, pattern) for pattern in paths),
            f"this path is not allowed to {rule.host}",
        ),
    )


def tunnel(rules: EgressRules, *, host: str, port: int) -> Allow | None:
    """The permission for TLS to pass unread, if the rule that names the host most closely gives it."""
    name = canonical_host(host.encode("ascii", "replace"))
    if name is None:
        return None
    found = [rule for rule in rules.rules if ("https", port) in rule.ports and rule.covers(name)]
    closest = max((rule.closeness for rule in found), default=0)
    closest_rules = [rule for rule in found if rule.closeness == closest]
    if not closest_rules or any(rule.mode == "inspect" for rule in closest_rules):
        return None
    return _allow(closest_rules[0], host=name, scheme="https", port=port)


def _allow(rule: HostRule, *, host: str, scheme: str, port: int) -> Allow:
    return Allow(
        host=host,
        port=port,
        scheme="https" if scheme == "https" else "http",
        mode=rule.mode if scheme == "https" else "inspect",
        rule=rule.name,
        private=rule.private,
        addresses=rule.addresses,
        upload=rule.upload_bytes,
    )


def _matches(path: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern


def _hides_a_slash(path: str) -> bool:
    return "%2f" in path.lower()


def rules_from_json(data: object) -> EgressRules | None:
    """Rules from `{"egress": [...]}`; None if anything in it is not right.

    Other keys are not looked at. On None keep the rules there were, or refuse to start.
    """
    listed = data.get("egress") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        return None
    found = [rule_from_json(item) for item in listed]
    rules = tuple(rule for rule in found if rule is not None)
    return EgressRules(rules=rules) if len(rules) == len(found) else None


def rule_from_json(
    data: object, *, source: Literal["egress", "allowed"] = "egress"
) -> HostRule | None:
    """A rule from an object with the fields of `HostRule`; None if anything in it is not right."""
    if not isinstance(data, dict):
        return None
    host, mode, private = data.get("host"), data.get("mode", "inspect"), data.get("private", False)
    ports, upload = _ports(data.get("ports")), data.get("upload")
    methods, paths = _texts(data.get("methods")), _texts(data.get("paths"))
    addresses = _texts(data.get("addresses", []))
    right = (
        isinstance(host, str) and is_host_pattern(host),
        mode in ("inspect", "splice"),
        isinstance(private, bool),
        bool(addresses is not None and addresses is not False and all(map(is_nameable, addresses))),
        ports is not None,
        upload is None or (type(upload) is int and upload >= 0),
        methods is None or (methods is not False and all(map(METHOD.fullmatch, methods))),
        paths is None or (paths is not False and all(map(is_path_pattern, paths))),
    )
    if not all(right):
        return None
    return HostRule(
        host=str(host),
        ports=ports or (),
        methods=None if methods is None else frozenset(methods or ()),
        paths=None if paths is None else paths or (),
        mode="splice" if mode == "splice" else "inspect",
        private=private is True,
        addresses=frozenset(addresses or ()),
        upload=upload,
        source=source,
    )


def _ports(data: object) -> tuple[tuple[Scheme, int], ...] | None:
    texts = _texts(data)
    if texts is None:
        return DEFAULT_PORTS
    parsed = [parse_port(text) for text in texts or ()]
    found = tuple(port for port in parsed if port is not None)
    return found if found and len(found) == len(parsed) else None


def _texts(data: object) -> tuple[str, ...] | Literal[False] | None:
    """A list of texts, None for none, False for anything else."""
    if data is None:
        return None
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        return False
    return tuple(data)
