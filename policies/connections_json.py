"""A run's connections as its gateway is told of them. Standard library only: see egress.py."""

from collections.abc import Mapping

from policies.connections import (
    DNS_PORT,
    HIGHEST_PORT,
    Connections,
    Credential,
    HttpAccess,
    LlmAccess,
    Requests,
    TcpAccess,
    Upstream,
    credential,
    endpoint,
    is_credential_header,
    is_endpoint_name,
    is_header_value,
    is_method,
    is_scheme,
    is_upstream_host,
    is_user,
    parse_upstream,
)
from policies.dialects import DIALECTS
from policies.features import is_allowable
from policies.paths import is_path_pattern
from policies.prices import prices_from_json


def connections_from_json(data: object) -> Connections | None:
    """None if anything in them is not right."""
    if not isinstance(data, list):
        return None
    calls: dict[str, LlmAccess | HttpAccess] = {}
    tunnels: dict[tuple[str, int], TcpAccess] = {}
    for item in data:
        kind = item.get("kind") if isinstance(item, dict) else None
        found = _access(item) if isinstance(item, dict) else None
        if found is None or not is_endpoint_name(str(kind), found.name):
            return None
        host = endpoint(str(kind), found.name)
        if isinstance(found, TcpAccess):
            tunnels[host, found.port] = found
        else:
            calls[host] = found
    names = {access.name for access in (*calls.values(), *tunnels.values())}
    return Connections(calls=calls, tunnels=tunnels) if len(names) == len(data) else None


def _access(item: Mapping[str, object]) -> LlmAccess | HttpAccess | TcpAccess | None:
    if not isinstance(item.get("name"), str) or not isinstance(item.get("private"), bool):
        return None
    match item.get("kind"):
        case "llm":
            return _llm(item)
        case "http":
            return _http(item)
        case "tcp":
            return _tcp(item)
        case _:
            return None


def _llm(item: Mapping[str, object]) -> LlmAccess | None:
    upstream, held = _upstream(item), _credential(item)
    models, allow = _texts(item.get("models")), _texts(item.get("allow"))
    prices = prices_from_json(item.get("prices"))
    dialect = next((d for d in DIALECTS if d == item.get("dialect")), None)
    if upstream is None or held is None or prices is None or dialect is None:
        return None
    if not models or allow is None or not all(is_allowable(name) for name in allow):
        return None
    return LlmAccess(
        name=str(item["name"]),
        dialect=dialect,
        upstream=upstream,
        private=bool(item["private"]),
        credential=held,
        models=models,
        allow=allow,
        prices=prices,
    )


def _http(item: Mapping[str, object]) -> HttpAccess | None:
    upstream, held, listed = _upstream(item), _credential(item), item.get("requests")
    if upstream is None or held is None or not isinstance(listed, list) or not listed:
        return None
    requests = [_requests(found) for found in listed]
    if None in requests:
        return None
    return HttpAccess(
        name=str(item["name"]),
        upstream=upstream,
        private=bool(item["private"]),
        credential=held,
        requests=tuple(found for found in requests if found is not None),
    )


def _requests(item: object) -> Requests | None:
    if not isinstance(item, dict):
        return None
    methods, paths = _texts(item.get("methods")), _texts(item.get("paths"))
    if not methods or not all(is_method(method) for method in methods):
        return None
    if not paths or not all(is_path_pattern(path) for path in paths):
        return None
    return Requests(methods=methods, paths=paths)


def _tcp(item: Mapping[str, object]) -> TcpAccess | None:
    host, port = item.get("host"), item.get("port")
    private = bool(item["private"])
    if not isinstance(host, str) or not is_upstream_host(host, private=private):
        return None
    if type(port) is not int or not 0 < port <= HIGHEST_PORT or port == DNS_PORT:
        return None
    return TcpAccess(name=str(item["name"]), host=host, port=port, private=private)


def _upstream(item: Mapping[str, object]) -> Upstream | None:
    return parse_upstream(str(item.get("upstream")), private=bool(item["private"]))


def _credential(item: Mapping[str, object]) -> Credential | None:
    texts = [item.get(key) for key in ("header", "scheme", "user", "secret")]
    if not all(isinstance(text, str) for text in texts):
        return None
    header, scheme, user, secret = map(str, texts)
    if not is_credential_header(header) or not is_scheme(scheme) or not is_user(user):
        return None
    if not is_header_value(secret):
        return None
    return credential(header=header, scheme=scheme, user=user, secret=secret)


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    return tuple(value)
