import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.egress import (
    Allow,
    Deny,
    EgressRules,
    canonical_host,
    decide,
    refused_address,
    rules_from_json,
)
from tests.unit.policies.samples import patient

RULES = EgressRules(
    hosts=frozenset({"allowed.com", "db.corp.acme.com"}), private=frozenset({"db.corp.acme.com"})
)


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
    assert isinstance(decide(RULES, scheme="https", host=spelled, port=443), Deny)


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


@patient
@given(st.binary(max_size=300) | st.text(alphabet="aA0.-_x%: \0\r\n", max_size=20).map(str.encode))
def test_canonical_host_is_total_and_stable(raw: bytes) -> None:
    host = canonical_host(raw)
    if host is not None:
        assert canonical_host(host.encode()) == host
        assert host == raw.decode().lower().removesuffix(".")
        with pytest.raises(ValueError, match="does not appear to be"):
            ipaddress.ip_address(host)


def test_a_listed_host_is_dialled_as_it_was_matched() -> None:
    assert decide(RULES, scheme="https", host="Allowed.COM.", port=443) == Allow(
        host="allowed.com", port=443, mode="splice", rule="egress:allowed.com", private=False
    )
    assert decide(RULES, scheme="http", host="db.corp.acme.com", port=80) == Allow(
        host="db.corp.acme.com", port=80, mode="http", rule="egress:db.corp.acme.com", private=True
    )


@pytest.mark.parametrize(
    ("scheme", "host", "port", "said"),
    [
        ("https", "evil.com", 443, "evil.com is not on the list"),
        ("https", "sub.allowed.com", 443, "not on the list"),
        ("https", "allowed.com", 22, "port 22 is not open"),
        ("https", "allowed.com", 0, "port 0 is not open"),
        ("https", "allowed.com", 65536 + 443, "is not open"),
        ("http", "allowed.com", 443, "does not speak"),
        ("https", "allowed.com", 80, "does not speak"),
        ("ftp", "allowed.com", 443, "does not speak"),
        ("https", "\ud800.com", 443, "not a host name"),
    ],
)
def test_what_is_not_listed_is_denied(scheme: str, host: str, port: int, said: str) -> None:
    answer = decide(RULES, scheme=scheme, host=host, port=port)
    assert isinstance(answer, Deny)
    assert said in answer.reason


def test_no_rules_deny_everything() -> None:
    assert isinstance(decide(EgressRules(), scheme="https", host="allowed.com", port=443), Deny)


@patient
@given(scheme=st.text(), host=st.text() | st.sampled_from(["allowed.com"]), port=st.integers())
def test_decide_is_total_and_allows_only_what_is_listed(scheme: str, host: str, port: int) -> None:
    answer = decide(RULES, scheme=scheme, host=host, port=port)
    if isinstance(answer, Allow):
        assert answer.host in RULES.hosts
        assert answer.host == host.lower().removesuffix(".")
        assert (scheme, port) in {("http", 80), ("https", 443)}
    else:
        assert answer.reason.isprintable()


def test_rules_come_from_json() -> None:
    data = {"egress": ["allowed.com", "db.corp.acme.com"], "private": ["db.corp.acme.com"], "x": 1}
    assert rules_from_json(data) == RULES
    assert rules_from_json({"egress": []}) == EgressRules()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"egress": None},
        {"egress": "allowed.com"},
        {"egress": ["*.allowed.com"]},
        {"egress": ["Allowed.com"]},
        {"egress": ["allowed.com."]},
        {"egress": ["allowed.com\n"]},
        {"egress": [1]},
        {"egress": [["allowed.com"]]},
        {"egress": ["allowed.com"], "private": None},
        {"egress": ["allowed.com"], "private": ["other.com"]},
    ],
)
def test_rules_that_are_not_right_are_no_rules(data: object) -> None:
    assert rules_from_json(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@patient
@given(JSON | st.fixed_dictionaries({"egress": JSON, "private": JSON}))
def test_rules_from_json_is_total(data: object) -> None:
    rules = rules_from_json(data)
    assert rules is None or all(canonical_host(host.encode()) == host for host in rules.hosts)


NEVER = [
    *("0.0.0.0", "0.1.2.3", "100.100.100.200", "168.63.129.16", "169.254.169.254", "192.0.0.192"),  # noqa: S104 (an address under test)
    *("192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:20::1", "2001:db8::1"),
    *("2002:7f00:1::", "3fff::1", "5f00::1", "fe80::1", "fec0::1", "ff02::1", "fd00:ec2::254"),
    *("fd20:ce::254", "fe80::1%eth0", "2606:4700::1%1", "2130706433", "0x7f.1", "127.1", ""),
    *("010.0.0.1", " 1.1.1.1", "1.1.1.1\n", "1.1.1.1/32", "example.com"),
]
PRIVATE = [
    *("10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.64.0.1", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "::1", "fc00::1", "fd12:3456::1"),
]
PUBLIC = [
    *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.32.0.0"),
    *("192.0.1.1", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2001:200::1", "2a00::1"),
]


@pytest.mark.parametrize("ip", NEVER)
def test_some_addresses_are_never_dialled(ip: str) -> None:
    assert refused_address(ip)
    assert refused_address(ip, private=True)


@pytest.mark.parametrize("ip", PRIVATE)
def test_private_addresses_need_the_policys_word(ip: str) -> None:
    assert refused_address(ip)
    assert refused_address(ip, private=True) is None


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_dialled(ip: str) -> None:
    assert refused_address(ip) is None
    assert refused_address(ip, private=True) is None


@patient
@given(st.text() | st.text(alphabet="0123456789abcdef:.%x/") | st.ip_addresses().map(str))
def test_refused_address_is_total_and_stricter_than_ipaddress(ip: str) -> None:
    if refused_address(ip) is None:
        address = ipaddress.ip_address(ip)
        assert address.is_global
        assert not address.is_multicast
    if refused_address(ip) is None:
        assert refused_address(ip, private=True) is None
