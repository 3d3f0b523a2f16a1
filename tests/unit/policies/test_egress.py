import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.egress import (
    READING_UPLOAD_BYTES,
    UPLOAD_BYTES,
    Allow,
    Deny,
    EgressRules,
    HostRule,
    canonical_host,
    decide,
    is_canonical_path,
    is_path_pattern,
    rule_from_json,
    rules_from_json,
    tunnel,
)
from tests.support.fuzz import fuzzed, patient

RULES = EgressRules(
    rules=(
        HostRule(host="allowed.com"),
        HostRule(host="db.corp.acme.com", private=True),
        HostRule(host="read.com", methods=frozenset({"GET", "HEAD"}), ports=(("https", 443),)),
        HostRule(host="part.com", paths=("/a/*", "/b")),
        HostRule(host="*.wide.com", ports=(("https", 8443), ("http", 8080))),
        HostRule(host="pinned.com", mode="splice"),
    )
)


def ask(
    host: str,
    *,
    method: str = "GET",
    scheme: str = "https",
    port: int = 443,
    path: str = "/",
    rules: EgressRules = RULES,
) -> Allow | Deny:
    return decide(rules, method=method, scheme=scheme, host=host, port=port, path=path)


@pytest.mark.parametrize(
    "raw",
    [
        b"2130706433",
        b"0x7f.1",
        b"0177.0.0.1",
        b"127.1",
        b"0",
        b"0251.0376.0251.0376",
        b"127.0.0.0x1",
        b"169.254.169.254",
        b"[::1]",
        b"::ffff:127.0.0.1",
        b"fe80::1%eth0",
        b"allowed.com:443.",
        b"allowed.com:443",
        b"allowed.com%00.evil",
        b"evil\0.allowed.com",
        b"evil.com\0.allowed.com",
        b"allowed.com\r\n",
        b"allowed.com\n",
        b"allowed.com\t",
        b" allowed.com",
        b"allowed.com ",
        b"%61llowed.com",
        b"allowed.com..",
        b".allowed.com",
        b"allowed..com",
        b"*.allowed.com",
        b"user@allowed.com",
        b"allowed.com/",
        b"-allowed.com",
        b"allowed-.com",
        b"allowed.c",
        b"localhost",
        b"",
        b".",
        "allowed\u3002com".encode(),
        "\uff41llowed.com".encode(),
        "\u212allowed.com".encode(),
        b"a" * 64 + b".com",
        b"a." * 127 + b"com",
    ],
)
def test_what_is_no_canonical_host_is_none(raw: bytes) -> None:
    assert canonical_host(raw) is None
    spelled = raw.decode("latin-1")
    assert isinstance(ask(spelled), Deny)


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"allowed.com", "allowed.com"),
        (b"ALLOWED.com", "allowed.com"),
        (b"allowed.com.", "allowed.com"),
        (b"_dmarc.a_b.allowed.com", None),
        (b"a_b.allowed.com", "a_b.allowed.com"),
        (b"xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        (b"a.b.xn--p1ai", "a.b.xn--p1ai"),
        (b"a." * 125 + b"com", "a." * 125 + "com"),
    ],
)
def test_a_host_has_one_spelling(raw: bytes, host: str | None) -> None:
    assert canonical_host(raw) == host


@fuzzed
@given(st.binary(max_size=300) | st.text(alphabet="aA0.-_x%: \0\r\n", max_size=20).map(str.encode))
def test_canonical_host_is_total_and_stable(raw: bytes) -> None:
    host = canonical_host(raw)
    if host is not None:
        assert canonical_host(host.encode()) == host
        assert host == raw.decode().lower().removesuffix(".")
        with pytest.raises(ValueError, match="does not appear to be"):
            ipaddress.ip_address(host)


def test_a_listed_host_is_dialled_as_it_was_matched() -> None:
    assert ask("Allowed.COM.") == Allow(
        host="allowed.com", port=443, scheme="https", rule="egress:allowed.com", private=False
    )
    assert ask("db.corp.acme.com", scheme="http", port=80) == Allow(
        host="db.corp.acme.com",
        port=80,
        scheme="http",
        rule="egress:db.corp.acme.com",
        private=True,
    )


@pytest.mark.parametrize(
    "given_request",
    [
        {"host": "allowed.com", "method": "DELETE", "path": "/x/y"},
        {"host": "read.com", "method": "HEAD"},
        {"host": "part.com", "path": "/a/"},
        {"host": "part.com", "path": "/a/b/c"},
        {"host": "part.com", "path": "/b"},
        {"host": "allowed.com", "path": "/@scope%2fname"},
        {"host": "a.wide.com", "port": 8443},
        {"host": "a.b.wide.com", "port": 8080, "scheme": "http"},
        {"host": "pinned.com", "port": 80, "scheme": "http"},
    ],
)
def test_what_a_rule_says_is_allowed(given_request: dict[str, Any]) -> None:
    assert isinstance(ask(**given_request), Allow)


@pytest.mark.parametrize(
    ("given_request", "said"),
    [
        ({"host": "evil.com"}, "evil.com is not on the list"),
        ({"host": "sub.allowed.com"}, "not on the list"),
        ({"host": "wide.com", "port": 8443}, "not on the list"),
        ({"host": "evilwide.com", "port": 8443}, "not on the list"),
        ({"host": "allowed.com", "port": 22}, "port 22 is not open"),
        ({"host": "allowed.com", "port": 0}, "port 0 is not open"),
        ({"host": "allowed.com", "port": 65536 + 443}, "is not open"),
        ({"host": "read.com", "port": 80, "scheme": "http"}, "port 80 is not open"),
        ({"host": "allowed.com", "scheme": "http"}, "does not speak"),
        ({"host": "allowed.com", "port": 80}, "does not speak"),
        ({"host": "allowed.com", "scheme": "ftp"}, "does not speak"),
        ({"host": "\ud800.com"}, "not a host name"),
        ({"host": "read.com", "method": "POST"}, "POST is not allowed to read.com, only GET, HEAD"),
        ({"host": "part.com", "path": "/c"}, "this path is not allowed"),
        ({"host": "part.com", "path": "/a"}, "this path is not allowed"),
        ({"host": "part.com", "path": "/b/"}, "this path is not allowed"),
        ({"host": "part.com", "path": "/a/x%2fy"}, "an encoded slash"),
        ({"host": "part.com", "path": "/a/../c"}, "read in two ways"),
        ({"host": "allowed.com", "method": "get"}, "read in two ways"),
        ({"host": "pinned.com"}, "passes unread"),
    ],
)
def test_what_is_not_allowed_is_denied_with_the_nearest_reason(
    given_request: dict[str, Any], said: str
) -> None:
    answer = ask(**given_request)
    assert isinstance(answer, Deny)
    assert said in answer.reason


def test_a_denial_names_the_rule_that_came_nearest() -> None:
    rules = EgressRules(
        rules=(
            HostRule(host="a.com", methods=frozenset({"GET"})),
            HostRule(host="a.com", methods=frozenset({"POST"}), paths=("/in",)),
            HostRule(host="*.com", ports=(("https", 1),)),
        )
    )
    denied = ask("a.com", method="POST", path="/out", rules=rules)
    assert denied == Deny(reason="this path is not allowed to a.com", rule="egress:a.com")
    assert isinstance(ask("a.com", method="POST", path="/in", rules=rules), Allow)


def test_no_rules_deny_everything() -> None:
    assert isinstance(ask("allowed.com", rules=EgressRules()), Deny)
    assert tunnel(EgressRules(), host="allowed.com", port=443) is None


def test_tls_passes_unread_only_where_the_closest_rule_says_so() -> None:
    rules = EgressRules(
        rules=(
            HostRule(host="*.acme.com", mode="splice"),
            HostRule(host="*.in.acme.com"),
            HostRule(host="read.acme.com"),
        )
    )
    passed = tunnel(rules, host="App.acme.com.", port=443)
    assert passed is not None
    assert (passed.host, passed.mode, passed.scheme) == ("app.acme.com", "splice", "https")
    for host, port in [
        ("read.acme.com", 443),
        ("a.in.acme.com", 443),
        ("acme.com", 443),
        ("app.acme.com", 80),
        ("app.acme.com", 8443),
        ("127.0.0.1", 443),
    ]:
        assert tunnel(rules, host=host, port=port) is None


def test_where_a_run_only_reads_it_may_send_little() -> None:
    assert HostRule(host="a.com", methods=frozenset({"GET"})).upload_bytes == READING_UPLOAD_BYTES
    assert HostRule(host="a.com", methods=frozenset({"PUT"})).upload_bytes == UPLOAD_BYTES
    assert HostRule(host="a.com").upload_bytes == UPLOAD_BYTES
    assert HostRule(host="a.com", upload=7).upload_bytes == 7


ODD_PATHS = [
    *("", "x", "*", "a/b", "//", "//x", "/x//y", "/x//", "/./x", "/x/.", "/x/./y", "/..", "/../x"),
    *("/x/..", "/x/../y", "/%2e%2e/x", "/%2E%2E/x", "/x/%2e", "/a%2eb", "/%252e", "/%252e%252e/x"),
    *(
        "/%252F",
        "/%25%32%65",
        "/%61llowed",
        "/%5A",
        "/x\\y",
        "/x%5cy",
        "/x%5C",
        "/x;y",
        "/;",
        "/x#y",
        "/x?y",
        "/\u00e4",
    ),
    *("/%", "/%2", "/%zz", "/%00", "/%0a", "/%0d", "/%1f", "/%7f", "/x y", "/x\ty", "/x\ny", "/\0"),
    f"/{'x' * 9000}",
]
PLAIN_PATHS = [
    *("/", "/x", "/x/", "/x/y.z", "/.well-known/x", "/..x", "/x..", "/a.b/...", "/-_~!$&'()*+,=:@"),
    *("/%20", "/caf%C3%A9", "/@scope%2fname", "/%40x", "/%25", "/a%25b", "/[x]{y}|^"),
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_that_could_be_read_in_two_ways_is_not_canonical(path: str) -> None:
    assert not is_canonical_path(path)
    assert isinstance(ask("allowed.com", path=path), Deny)


@pytest.mark.parametrize("path", PLAIN_PATHS)
def test_a_plain_path_is_canonical(path: str) -> None:
    assert is_canonical_path(path)


@pytest.mark.parametrize("pattern", ["/*", "/a/*", "/a*", "/a/b"])
def test_a_path_pattern_is_a_path_or_a_beginning(pattern: str) -> None:
    assert is_path_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "*", "a*", "/*/b", "/a/**", "/../*", "/a%2f*", "//*"])
def test_other_path_patterns_are_none(pattern: str) -> None:
    assert not is_path_pattern(pattern)


def test_rules_come_from_json() -> None:
    data = {
        "egress": [
            {"host": "allowed.com"},
            {
                "host": "*.acme.com",
                "ports": ["https:8443", "http:8080"],
                "methods": ["GET"],
                "paths": ["/a/*"],
                "mode": "inspect",
                "private": True,
                "addresses": ["203.0.113.7"],
                "upload": 5,
            },
        ],
        "x": 1,
    }
    assert rules_from_json(data) == EgressRules(
        rules=(
            HostRule(host="allowed.com"),
            HostRule(
                host="*.acme.com",
                ports=(("https", 8443), ("http", 8080)),
                methods=frozenset({"GET"}),
                paths=("/a/*",),
                private=True,
                addresses=frozenset({"203.0.113.7"}),
                upload=5,
            ),
        )
    )
    assert rules_from_json({"egress": []}) == EgressRules()


@pytest.mark.parametrize("data", [None, [], {}, {"egress": None}, {"egress": "x"}, {"egress": {}}])
def test_what_is_no_list_of_rules_is_none(data: object) -> None:
    assert rules_from_json(data) is None


WRONG: dict[str, list[object]] = {
    "host": [
        *(None, 1, [], "", "*", "Allowed.com", "allowed.com.", "a.com\n", "*.*.com", "*a.com"),
        *("10.0.0.1", "a.com b.com", 'a.com"', "a.com:443", "https://a.com"),
    ],
    "ports": [
        *([], 443, [443], ["443"], ["https:0"], ["ftp:21"], ["https:65536"], ["https:+443"]),
        *(["https:0443"], ["https:443;"], ["https:443", "22"]),
    ],
    "methods": ["GET", [1], ["get"], ["GET "], [["GET"]]],
    "paths": ["/", [1], ["a"], ["/../x"], [[]]],
    "mode": ["tunnel", None, 1, [], {}],
    "private": [1, "yes", None],
    "addresses": [*("10.0.0.1", None, [1], ["10.0.0.0/8"], ["1.1.1.1"], ["169.254.169.254"])],
    "upload": [True, -1, "5", 1.5],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_one_wrong_rule_makes_all_of_them_no_rules(field: str, value: object) -> None:
    wrong = {"host": "allowed.com", field: value}
    assert rule_from_json(wrong) is None
    assert rules_from_json({"egress": [{"host": "other.com"}, wrong]}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = ("host", "ports", "methods", "paths", "mode", "private", "addresses", "upload")


@patient
@given(
    JSON
    | st.fixed_dictionaries({"egress": JSON})
    | st.fixed_dictionaries(
        {"egress": st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=2)}
    )
)
def test_rules_from_json_is_total(data: object) -> None:
    rules = rules_from_json(data)
    for rule in rules.rules if rules else ():
        assert canonical_host(rule.host.removeprefix("*.").encode()) is not None


HOSTS = ("a.com", "b.a.com", "c.b.a.com", "ba.com", "A.com.", "10.0.0.1", "a.com\0")
RULE = st.builds(
    HostRule,
    host=st.sampled_from(("a.com", "*.a.com", "*.b.a.com", "b.a.com")),
    ports=st.lists(
        st.tuples(st.sampled_from(("http", "https")), st.sampled_from((80, 443))),
        min_size=1,
        max_size=2,
    ).map(tuple),
    methods=st.none() | st.frozensets(st.sampled_from(("GET", "PUT")), min_size=1),
    paths=st.none()
    | st.lists(st.sampled_from(("/", "/a/*", "/a", "/*", "/a*")), min_size=1, max_size=2).map(
        tuple
    ),
    mode=st.sampled_from(("inspect", "inspect", "splice")),
)


def may_be_allowed(
    rule: HostRule, *, method: str, scheme: str, host: str, port: int, path: str
) -> bool:
    """What a rule says, written down a second time and as plainly as can be."""
    name = host.lower().rstrip(".")
    wild = rule.host.startswith("*.") and name != rule.host[2:] and name.endswith(rule.host[1:])
    segments = path.split("/")
    plain = path.isascii() and path.isprintable() and not set("\\;?# ") & set(path)
    plain = (
        plain and segments[0] == "" and "" not in segments[1:-1] and not {".", ".."} & set(segments)
    )
    shown = [
        e for e in rule.paths or ("/*",) if path == e or (e[-1] == "*" and path.startswith(e[:-1]))
    ]
    return (
        (name == rule.host or wild)
        and (scheme, port) in rule.ports
        and (rule.mode == "inspect" or scheme == "http")
        and (rule.methods is None or method in rule.methods)
        and plain
        and bool(shown)
        and not (rule.paths and "%2f" in path.lower())
    )


@fuzzed
@given(
    rules=st.lists(RULE, max_size=3),
    method=st.sampled_from(("GET", "PUT", "POST")) | st.text(max_size=4),
    scheme=st.sampled_from(("http", "https")) | st.text(max_size=5),
    host=st.sampled_from(HOSTS) | st.text(max_size=12),
    port=st.sampled_from((80, 443)) | st.integers(),
    path=st.text(alphabet="/a.%2eEfF5cC;\\?#b \x80", max_size=10).map("/{}".format)
    | st.text(max_size=6),
)
def test_decide_is_total_and_allows_only_what_a_rule_says(
    rules: list[HostRule], method: str, scheme: str, host: str, port: int, path: str
) -> None:
    given_request: dict[str, Any] = {
        "method": method, "scheme": scheme, "host": host, "port": port, "path": path,
    }  # fmt: skip
    answer = decide(EgressRules(rules=tuple(rules)), **given_request)
    if isinstance(answer, Deny):
        assert answer.reason.isprintable()
        return
    assert any(may_be_allowed(rule, **given_request) for rule in rules)
    assert (answer.host, answer.port, answer.scheme) == (host.lower().rstrip("."), port, scheme)
    assert not re.search(r"%(?:2e|5c|0|1|25(?:2e|2f|5c))", path, re.IGNORECASE)


@fuzzed
@given(
    rules=st.lists(RULE, max_size=3), host=st.sampled_from(HOSTS) | st.text(), port=st.integers()
)
def test_tunnel_is_total_and_passes_only_what_a_rule_says(
    rules: list[HostRule], host: str, port: int
) -> None:
    for number in (443, port):
        allow = tunnel(EgressRules(rules=tuple(rules)), host=host, port=number)
        if allow is not None:
            covering = [rule for rule in rules if rule.covers(allow.host)]
            assert any(r.mode == "splice" and ("https", number) in r.ports for r in covering)
            exact = [r for r in covering if r.host == allow.host and ("https", number) in r.ports]
            assert all(rule.mode == "splice" for rule in exact)
