"""What a policy says about the hosts of a run, and the lists of hosts that have a name.

The hosts of `python`, `node` and `debian` are not here: they are what the package managers of an image are set up to use,
so the image says them, and the worker puts them in.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from policies.addresses import is_nameable
from policies.egress import METHOD, is_path_pattern, parse_port
from policies.names import Host, Size

_HTTP_PORT = 80
_DNS_PORT = 53
_GIB = 1024**3


def _port(value: object) -> object:
    """`443` is TLS, `80` is plain; `"http:8080"` says it."""
    if type(value) is not int:
        return value
    return f"{'http' if value == _HTTP_PORT else 'https'}:{value}"


def _known_port(text: str) -> str:
    port = parse_port(text)
    if port is None:
        raise ValueError('write a port like 8443 (TLS), or "http:8080" for one without TLS')
    if port[1] == _DNS_PORT:
        raise ValueError(f"port {_DNS_PORT} is where a run's names are answered; use another one")
    return text


def _method(text: str) -> str:
    if not METHOD.fullmatch(text) or text == "CONNECT":
        raise ValueError("write a method in capitals, like GET")
    return text


def _path(text: str) -> str:
    if not is_path_pattern(text):
        raise ValueError(
            "write a path like /v1/items, or the beginning of paths like /v1/* (one * at the end, no query, no `..`,"
            " nothing encoded that could be written plainly)"
        )
    return text


def _address(text: str) -> str:
    if not is_nameable(text):
        raise ValueError(
            "write a private address like 10.1.2.3 (public ones need no word, metadata services and multicast stay closed)"
        )
    return text


Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[str, BeforeValidator(_port), AfterValidator(_known_port)]
Method = Annotated[str, AfterValidator(_method)]
Path = Annotated[str, AfterValidator(_path)]


class EgressRule(BaseModel):
    """One host, or all below a name. As JSON it is what the gateway reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: Host
    methods: tuple[Method, ...] | None = Field(default=None, min_length=1)
    """None: every method. GET takes HEAD along."""
    paths: tuple[Path, ...] | None = Field(default=None, min_length=1)
    """Whole paths, or beginnings that end in `*`; None: every path."""
    mode: Literal["inspect", "splice"] = "inspect"
    """`splice` passes TLS unread, for clients that trust only certificates of their own."""
    ports: tuple[Port, ...] = Field(default=("https:443", "http:80"), min_length=1)
    private: bool = Field(default=False, strict=True)
    """The name may resolve to a private address."""
    addresses: tuple[Address, ...] = ()
    """Single addresses that the name may resolve to although they are not public; closer than `private`."""
    upload: Size | None = Field(default=None, ge=0, le=1024 * _GIB)
    """Bytes that a run may send there; None: 50 MB, or 5 MB where it may only read."""

    @model_validator(mode="after")
    def _can_be_held_to(self) -> Self:
        if self.mode == "splice" and (self.methods or self.paths):
            raise ValueError(
                "what passes unread (`mode: splice`) cannot be held to methods or paths: take them or the mode out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _reading_is_one(cls, data: Any) -> Any:
        methods = data.get("methods") if isinstance(data, dict) else None
        if isinstance(methods, list | tuple) and "GET" in methods and "HEAD" not in methods:
            return {**data, "methods": [*methods, "HEAD"]}
        return data


def _reading(host: str, *ports: str, addresses: tuple[str, ...] = ()) -> EgressRule:
    ports = ports or ("https:443",)
    return EgressRule(host=host, methods=("GET", "HEAD"), ports=ports, addresses=addresses)


FROM_IMAGE = frozenset({"python", "node", "debian"})
_FIXED: Mapping[str, tuple[EgressRule, ...]] = {
    "none": (),
    "rust": tuple(
        map(_reading, ("index.crates.io", "static.crates.io", "crates.io", "static.rust-lang.org"))
    ),
    "go": tuple(map(_reading, ("proxy.golang.org", "sum.golang.org", "dl.google.com"))),
    "github-read": tuple(
        map(
            _reading,
            (
                "github.com",
                "api.github.com",
                "codeload.github.com",
                "raw.githubusercontent.com",
                "objects.githubusercontent.com",
                "release-assets.githubusercontent.com",
            ),
        )
    ),
}
PROFILES = frozenset(_FIXED) | FROM_IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What profiles came to."""

    rules: tuple[EgressRule, ...]
    empty: tuple[str, ...]
    """Those that give nothing, because the image names no hosts for them."""


def open_profiles(names: Iterable[str], *, registries: str) -> Opened:
    """`registries` is what an image says about itself; whatever it is, nothing is raised and nothing is guessed."""
    said = _said(registries)
    rules: list[EgressRule] = []
    empty: list[str] = []
    for name in names:
        found = _FIXED[name] if name in _FIXED else _of_image(said.get(name))
        rules += found
        if not found and name != "none":
            empty.append(name)
    return Opened(rules=tuple(dict.fromkeys(rules)), empty=tuple(empty))


def _said(text: str) -> Mapping[str, object]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _of_image(entries: object) -> tuple[EgressRule, ...]:
    """All entries of a profile, or none of them: half a registry is no registry."""
    if not isinstance(entries, list):
        return ()
    found = [_entry(entry) for entry in entries]
    rules = tuple(rule for rule in found if rule is not None and not rule.host.startswith("*"))
    return rules if len(rules) == len(found) else ()


def _entry(entry: object) -> EgressRule | None:
    """A host, or `{"host": ..., "scheme": "http", "port": 8080, "addresses": ["10.1.2.3"]}`."""
    fields = {"host": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or fields.get("scheme", "https") not in ("http", "https"):
        return None
    scheme = fields.get("scheme", "https")
    port = fields.get("port", _HTTP_PORT if scheme == "http" else 443)
    addresses = fields.get("addresses", ())
    if not isinstance(addresses, list | tuple):
        return None
    try:
        return _reading(fields.get("host", ""), f"{scheme}:{port}", addresses=tuple(addresses))
    except ValidationError:
        return None
