import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.addresses import is_nameable, refused_address
from tests.support.fuzz import patient

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


@pytest.mark.parametrize("ip", [*PRIVATE, "203.0.113.7", "198.18.0.1", "2001:db8::1"])
def test_what_is_of_no_public_use_is_dialled_where_a_rule_names_it(ip: str) -> None:
    assert is_nameable(ip)
    assert refused_address(ip, named=(ip,)) is None
    assert refused_address(ip, named=("10.9.9.9",))


@pytest.mark.parametrize(
    "ip",
    [*PUBLIC, "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::127.0.0.1", "::ffff:10.0.0.1", "224.0.0.1",
     "2002:7f00:1::", "64:ff9b::7f00:1", "fc00:0::1", "FC00::1", "010.0.0.1", "10.0.0.0/8", "", "acme.com"],
)  # fmt: skip
def test_other_addresses_cannot_be_named(ip: str) -> None:
    assert not is_nameable(ip)


@pytest.mark.parametrize("ip", [ip for ip in NEVER if not is_nameable(ip)])
def test_naming_opens_nothing_else(ip: str) -> None:
    assert refused_address(ip, named=(ip,))


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
