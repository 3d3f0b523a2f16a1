"""What a policy may say of hosts, and what the profiles come to."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.egress import HostRule, rule_from_json
from policies.hosts import FROM_IMAGE, PROFILES, EgressRule, open_profiles
from policies.suffixes import shared_below
from tests.support.fuzz import patient


def said(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        EgressRule(host="api.acme.com", **fields)
    return str(caught.value)


def test_a_rule_is_read_by_the_gateway_as_it_is_written() -> None:
    written = EgressRule.model_validate(
        {
            "host": "*.acme.com",
            "methods": ["GET", "POST"],
            "paths": ["/v1/*"],
            "ports": [8443, 80, "http:8080"],
            "private": True,
            "upload": "1MB",
        }
    )
    assert rule_from_json(json.loads(written.model_dump_json())) == HostRule(
        host="*.acme.com",
        methods=frozenset({"GET", "HEAD", "POST"}),
        paths=("/v1/*",),
        ports=(("https", 8443), ("http", 80), ("http", 8080)),
        private=True,
        upload=1_000_000,
    )


def test_a_host_alone_is_open_to_everything_on_the_ports_of_the_web() -> None:
    written = EgressRule(host="api.acme.com")
    assert rule_from_json(written.model_dump(mode="json")) == HostRule(host="api.acme.com")


def test_a_rule_survives_json() -> None:
    written = EgressRule.model_validate({"host": "a.acme.com", "methods": ["GET"], "ports": [443]})
    assert EgressRule.model_validate_json(written.model_dump_json()) == written


@pytest.mark.parametrize("methods", [["get"], [], ["CONNECT"], ["GET "], ["*"]])
def test_a_method_has_capitals(methods: list[str]) -> None:
    assert "methods" in said(methods=methods)


@pytest.mark.parametrize("paths", [[], ["v1"], ["*"], ["/a/*/b"], ["/../x"], ["/a?b"], ["/%61"]])
def test_a_path_is_whole_or_a_beginning(paths: list[str]) -> None:
    assert "paths" in said(paths=paths)


@pytest.mark.parametrize(
    "port", [0, 70_000, -1, "443", "https", "udp:53", 53, "http:53", True, 1.5]
)
def test_a_port_is_a_number_or_says_that_it_is_plain(port: object) -> None:
    assert "ports" in said(ports=[port])


@pytest.mark.parametrize("fields", [{"methods": ["GET"]}, {"paths": ["/a"]}])
def test_what_passes_unread_cannot_be_held_to_anything(fields: dict[str, Any]) -> None:
    assert "cannot be held to methods or paths" in said(mode="splice", **fields)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "*.com",
            "*.co.uk",
            "*.com.au",
            "*.github.io",
            "*.githubusercontent.com",
            "*.s3.amazonaws.com",
        ),
        *(
            "*.s3.eu-west-1.amazonaws.com",
            "*.amazonaws.com",
            "*.blob.core.windows.net",
            "*.windows.net",
        ),
        *(
            "*.pages.dev",
            "*.vercel.app",
            "*.herokuapp.com",
            "*.ngrok.io",
            "*.core.windows.net",
            "*.run.app",
        ),
        *("*", "*.*.acme.com", "*acme.com", "a.*.com", "*.llm.internal", "*.internal"),
    ],
)
def test_a_wildcard_over_what_is_anybodys_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="host"):
        EgressRule(host=host)


@pytest.mark.parametrize(
    "host",
    [
        "*.acme.com",
        "*.acme.co.uk",
        "*.acme.github.io",
        "*.b.s3.amazonaws.com",
        "*.corp.acme.internal",
    ],
)
def test_a_wildcard_over_somebodys_own_names_is_taken(host: str) -> None:
    assert EgressRule(host=host).host == host


def test_the_shared_suffix_is_named() -> None:
    assert shared_below("amazonaws.com") == "amazonaws.com"
    assert shared_below("co.uk") == "co.uk"
    assert shared_below("acme.com") is None


LABEL = json.dumps(
    {
        "python": ["index.acme.com", "files.acme.com"],
        "node": [
            {"host": "npm.acme.com", "scheme": "https", "port": 8443, "addresses": ["10.1.2.3"]}
        ],
        "debian": [{"host": "deb.acme.com", "scheme": "http"}],
    }
)


def test_profiles_are_what_the_image_says() -> None:
    opened = open_profiles(["python", "debian", "node"], registries=LABEL)
    assert [(rule.host, rule.ports) for rule in opened.rules] == [
        ("index.acme.com", ("https:443",)),
        ("files.acme.com", ("https:443",)),
        ("deb.acme.com", ("http:80",)),
        ("npm.acme.com", ("https:8443",)),
    ]
    assert {rule.methods for rule in opened.rules} == {("GET", "HEAD")}
    assert [rule.addresses for rule in opened.rules] == [(), (), (), ("10.1.2.3",)]
    assert opened.empty == ()


def test_some_profiles_are_the_same_everywhere() -> None:
    for name in sorted(PROFILES - FROM_IMAGE - {"none"}):
        opened = open_profiles([name], registries="")
        assert opened.rules
        assert all(rule.methods == ("GET", "HEAD") for rule in opened.rules)
        assert opened.empty == ()


def test_a_profile_opened_twice_is_opened_once() -> None:
    assert open_profiles(["go", "go"], registries="") == open_profiles(["go"], registries="")


@pytest.mark.parametrize(
    "registries",
    [
        *(
            "",
            "{",
            "[]",
            "{}",
            '{"python": []}',
            '{"python": null}',
            '{"python": "index.acme.com"}',
        ),
        *('{"python": ["index.acme.com", 5]}', '{"python": ["https://index.acme.com"]}'),
        *('{"python": ["*.acme.com"]}', '{"python": ["10.0.0.1"]}', '{"python": [{"host": []}]}'),
        *(
            '{"python": [{"host": "a.acme.com", "scheme": "ftp"}]}',
            '{"python": [{"scheme": "http"}]}',
        ),
        '{"python": [{"host": "a.acme.com", "port": "22; "}]}',
        *(
            '{"python": [{"host": "a.acme.com", "addresses": ["169.254.169.254"]}]}',
            '{"python": [{"host": "a.acme.com", "addresses": 1}]}',
        ),
    ],
)
def test_an_image_that_does_not_say_it_well_opens_nothing(registries: str) -> None:
    opened = open_profiles(["none", "python"], registries=registries)
    assert (opened.rules, opened.empty) == ((), ("python",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ENTRY = JSON | st.dictionaries(st.sampled_from(("host", "scheme", "port", "addresses")), JSON)


@patient
@given(
    st.text()
    | st.dictionaries(st.sampled_from(sorted(FROM_IMAGE)), st.lists(ENTRY)).map(json.dumps)
)
def test_whatever_an_image_says_nothing_is_raised(registries: str) -> None:
    opened = open_profiles(sorted(PROFILES), registries=registries)
    assert all(rule.methods == ("GET", "HEAD") for rule in opened.rules)
