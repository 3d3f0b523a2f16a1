from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.connection_model import HttpConnection, LlmConnection, TcpConnection
from policies.decide import decide
from policies.errors import PolicyFileError
from policies.load import MAX_BYTES, load_policy
from policies.model import Ask, Refusal
from tests.support.fuzz import patient
from tests.unit.policies.samples import TEAM, policy_of


def refused(text: str) -> str:
    with pytest.raises(PolicyFileError) as caught:
        policy_of(text)
    return str(caught.value)


def test_the_packaged_default_refuses_everything() -> None:
    policy = load_policy(None)
    answer = decide(policy, Ask(person="slack:U1", where="slack:C1", action="start", repo="a/b"))
    assert isinstance(answer, Refusal)
    assert policy.rules == ()
    assert policy.repos == {}


def test_the_example_in_the_default_is_right() -> None:
    lines = load_default_text().splitlines()
    begin = lines.index("version: 1")
    example = [line.removeprefix("# ") for line in lines[begin:] if not _is_prose(line)]
    policy = policy_of("\n".join(example))
    assert list(policy.repos) == ["acme/web"]
    assert len(policy.rules) == 2
    assert policy.limits == load_policy(None).limits


def load_default_text() -> str:
    return (Path(__file__).parents[3] / "policies" / "default.yml").read_text()


def _is_prose(line: str) -> bool:
    return (line.startswith("# ") and line[2].isupper()) or line.startswith("# decides.")


def test_a_file_is_read_and_hashed_by_what_it_means(tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text("# a comment\n" + TEAM)
    policy = load_policy(path)
    assert policy.hash == policy_of(TEAM).hash
    assert policy.hash != policy_of("version: 1").hash
    assert len(policy.hash) == 64


def test_sizes_and_connections_are_parsed() -> None:
    policy = policy_of(TEAM)
    assert policy.limits.memory == 4_000_000_000
    assert policy.limits.disk == 8 * 1024**3
    assert policy.repos["acme/web"].publish.max_bytes == 5_000_000
    assert isinstance(policy.connections["anthropic"], LlmConnection)
    assert isinstance(policy.connections["staging-db"], TcpConnection)
    assert policy_of("version: 1\nlimits: {memory: 536870912}").limits.memory == 512 * 1024**2


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"none\.yml: there is no such file: create it"):
        load_policy(tmp_path / "none.yml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"version: 1 # \xff", "not UTF-8"),
        (b"version: 1\n" + b"#" * MAX_BYTES, "more than 1000000 bytes"),
        (b"version: 1\n\x00", "no text"),
        (b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "policy.yml"
    path.write_bytes(raw)
    with pytest.raises(PolicyFileError, match=said):
        load_policy(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nversion: 1", "policy.yml: line 2: the key 'version' is here twice"),
        ("version: 1\n1: x", "line 2: a key must be text"),
        ("version: 1\n? [a]\n: b", "line 2: a key must be text"),
        ("version: 1\nx: 2020-01-01", "line 2: this is neither text nor a number"),
        ("version: !!int abc", "line 1: a tag does not fit"),
        ("version: !!python/none 1", "line 1: this is neither"),
        ("version: 1\nrules:\n  - {who: [*], where: [a]}", "line 3: a lone * is an alias"),
        ("a: &x 1\nb: *x", "line 2: a lone * is an alias"),
        ("version: 1\nb: [", "line 2: expected the node content"),
        ("version: 1\n--- \nversion: 1", "line 2: but found another document"),
        ("- 1", "line 1, the whole file: write keys and values"),
        ("rules: []", "the whole file: add `version`"),
        ("version: 2", "line 1, version: input should be 1"),
        ("version: 1\nrulez: []", "line 2, rulez: there is no such key"),
        ("version: 1\nrules: {}", "line 2, rules: write a list here"),
        ("version: 1\nlimits:\n  memry: 1", "line 3, limits.memry: there is no such key"),
        ("version: 1\nlimits: {wall_minutes: 0}", "limits.wall_minutes: input should be greater"),
        ("version: 1\nlimits: {wall_minutes: '9'}", "wall_minutes: input should be a valid int"),
        ("version: 1\nlimits: {tasks: true}", "limits.tasks: input should be a valid integer"),
        ("version: 1\nlimits: {cost_usd: .inf}", "limits.cost_usd: input should be"),
        ("version: 1\nlimits: {memory: 64MB}", "limits.memory: input should be greater"),
        ("version: 1\nlimits: {memory: 4G}", "limits.memory: write a size like 5MB"),
        ("version: 1\nlimits: {memory: -1GB}", "limits.memory: write a size"),
        ("version: 1\nconnections: {a: {upstream: x}}", "connections.a: add `kind`"),
        ("version: 1\nconnections: {a: {kind: ftp}}", "connections.a: input tag 'ftp'"),
        ("version: 1\nconnections: {a: 1}", "connections.a: write keys and values here"),
        ("version: 1\nrepos: []", "repos: write keys and values here"),
        (
            "version: 1\nrepos: {a/b: {forge: local, commands: {deny: [gh], broker: [gh]}}}",
            "gh is denied and brokered",
        ),
        ("version: 1\nrepos: {a/b: {forge: local, commands: {broker: [x]}}}", "commands.broker[0]"),
        (
            "version: 1\nrepos: {a/b: {forge: local, commands: {deny: [sh]}}}",
            "cannot do without sh",
        ),
        (
            "version: 1\nrepos: {a/b: {forge: local, commands: {deny: [/bin/x]}}}",
            "name of a program",
        ),
        (
            "version: 1\nrepos: {a/b: {forge: local, commands: {deny: ['x y']}}}",
            "name of a program",
        ),
        (
            "version: 1\nrepos: {a/b: {forge: local, sandbox: {runtime: kata}}}",
            "sandbox.runtime: input",
        ),
    ],
)
def test_an_error_names_file_line_place_and_cure(text: str, said: str) -> None:
    assert said in refused(text)


RULE = {
    "who": '["*"]',
    "where": '["*"]',
    "repos": '["*"]',
    "agents": '["*"]',
    "may": "[start]",
}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("who", "[]", "rules[0].who: "),
        ("who", "[devs]", "rules[0].who[0]: there is no group devs under `people`"),
        ("who", '["slack:*"]', "rules[0].who[0]: write a group"),
        ("who", '["Slack:U1"]', "rules[0].who[0]: write a group"),
        ("where", "[C0WEB]", "rules[0].where[0]: write a place"),
        ("where", '["slack:C0*"]', "rules[0].where[0]: write a place"),
        ("repos", "[acme/web]", "rules[0].repos[0]: acme/web is not described under `repos`"),
        ("repos", '["acme/*"]', "rules[0].repos[0]: write a repository as owner/name"),
        ("agents", '["claude-*"]', "rules[0].agents[0]: write the name of an agent"),
        ("may", "[start, deploy]", "rules[0].may[1]: input should be 'start'"),
    ],
)
def test_a_wrong_rule_is_named(field: str, value: str, said: str) -> None:
    body = ", ".join(f"{key}: {text}" for key, text in {**RULE, field: value}.items())
    assert said in refused(f"version: 1\nrules:\n  - {{{body}}}")


@pytest.mark.parametrize(
    "name",
    [
        "acme",
        "acme/",
        "/web",
        "a/b/c",
        "acme/..",
        "acme/.",
        "acme/web.git",
        "-a/b",
        "a b/c",
        "https://github.com/acme/web",
        "acme/web\\n",
        "\u0430cme/web",
    ],
)
def test_only_owner_and_name_make_a_repository(name: str) -> None:
    assert "owner/name" in refused(f'version: 1\nrepos:\n  "{name}": {{forge: local}}')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("forge: gitlab", "repos.acme/web.forge: input should be 'local' or 'github'"),
        ("default_for: [x]", "repos.acme/web: add `forge`"),
        ('forge: local, keywords: ["/x"]', "keywords[0]: write a word or a few"),
        (
            "forge: local, egress: {profiles: [perl]}",
            "profiles[0]: there is no profile 'perl': known are debian, github-read, go, n",
        ),
        ("forge: local, connections: [llm]", "connections[0]: there is no connection llm"),
        ("forge: local, reads: [acme/x]", "reads[0]: acme/x is not another one under `repos`"),
        ("forge: local, reads: [acme/web]", "reads[0]: acme/web is not another one under `repos`"),
        (
            "forge: local, egress: {hosts: [{host: a.acme.com, methods: [get]}]}",
            "hosts[0].methods[0]: write a method in capitals",
        ),
        (
            "forge: local, egress: {hosts: [{host: a.acme.com, mode: splice, methods: [GET]}]}",
            "hosts[0]: what passes unread",
        ),
        (
            "forge: local, egress: {hosts: [{host: a.acme.com}, {host: a.acme.com, mode: splice}]}",
            "hosts[1].mode: a.acme.com has another mode above",
        ),
        ("forge: local, egress: {hosts: [a.acme.com]}", "hosts[0]: write keys and values here"),
        ("forge: local, publish: {max_bytes: 5 parsecs}", "publish.max_bytes: write a size"),
        ("forge: local, publish: {draft: 'no'}", "publish.draft: input should be a valid bool"),
    ],
)
def test_a_wrong_repository_is_named(body: str, said: str) -> None:
    assert said in refused(f"version: 1\nrepos:\n  acme/web: {{{body}}}")


@pytest.mark.parametrize(
    "host",
    [
        "*.com",
        "*.github.io",
        "a.*.com",
        "ACME.com",
        "acme.com.",
        "localhost",
        "10.0.0.1",
        "acme.com:443",
        "acme.com\\n",
        "https://acme.com",
        "a b.com",
        'a.com\\"',
        "münchen.de",
        "[::1]",
        "",
        "\\ud800.com",
        "git.internal",
        "anthropic.llm.internal",
        "0x7f.1",
    ],
)
def test_only_a_whole_canonical_host_is_taken(host: str) -> None:
    text = f'version: 1\nrepos: {{a/b: {{forge: local, egress: {{hosts: [{{host: "{host}"}}]}}}}}}'
    assert "hosts[0].host: " in refused(text)


@pytest.mark.parametrize("glob", ["", "/", "a//b", "../x", "a/./b", "!x", "a\\\\b", "a\\nb"])
def test_a_pattern_that_could_not_match_is_refused(glob: str) -> None:
    text = f'version: 1\nrepos: {{a/b: {{forge: local, publish: {{protected: ["{glob}"]}}}}}}'
    assert "publish.protected[0]: a path pattern has no" in refused(text)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('kind: llm, upstream: "http://api.acme.com", secret: KEY', "write https://host"),
        ('kind: llm, upstream: "https://u@api.acme.com", secret: KEY', "write https://host"),
        ('kind: llm, upstream: "https://api.acme.com:99999", secret: KEY', "write https://host"),
        ('kind: llm, upstream: "https://10.0.0.1/", secret: KEY', "write https://host"),
        (
            'kind: llm, upstream: "http://10.0.0.1", secret: KEY, private: false',
            "write https://host",
        ),
        ("kind: tcp, upstream: db.acme.com", "write host:port"),
        ('kind: tcp, upstream: "db.acme.com:0"', "write host:port"),
        ('kind: tcp, upstream: "db.acme.com:70000"', "write host:port"),
        ('kind: tcp, upstream: "10.0.0.1:80"', "write host:port"),
    ],
)
def test_a_wrong_connection_is_named(body: str, said: str) -> None:
    assert f"connections.c.upstream: {said}" in refused(
        f"version: 1\nconnections: {{c: {{{body}}}}}"
    )


def test_a_private_model_server_may_be_an_address_without_tls() -> None:
    body = 'kind: llm, upstream: "http://10.0.0.1:8000", secret: KEY, private: true'
    connection = policy_of(f"version: 1\nconnections: {{c: {{{body}}}}}").connections["c"]
    assert isinstance(connection, LlmConnection)
    assert (connection.login, connection.private) == (("x-api-key", ""), True)


REQUESTS = 'requests: [{methods: [GET], paths: ["/api/**"]}]'
HTTP = f'kind: http, upstream: "https://issues.acme.com", secret: KEY, {REQUESTS}'
LLM = 'kind: llm, upstream: "https://api.acme.com", secret: KEY'


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        (f"{LLM}, dialect: other", "dialect", "input should be"),
        (f"{LLM}, allow: [websearch]", "allow", "there is no feature 'websearch': known are web_search"),
        (f"{LLM}, scheme: two words", "scheme", "write one word"),
        (HTTP.replace("GET", "get"), "requests[0].methods", "write methods in capitals"),
        (HTTP.replace("/api/**", "api"), "requests[0].paths", "write paths like"),
        (HTTP.replace("/api/**", "/a/**/b"), "requests[0].paths", "write paths like"),
        (HTTP.replace(REQUESTS, "requests: []"), "requests", "tuple should have at least 1 item"),
        ('kind: http, upstream: "https://issues.acme.com", secret: KEY', "", "add `requests`"),
        (f"{HTTP}, user: bot, header: x-token", "", "leave `header` and `scheme` out"),
        (f'{HTTP}, user: "a:b"', "", "`user` has no colon"),
        ('kind: tcp, upstream: "db.acme.com:53"', "upstream", "port 53 is taken"),
    ],
)  # fmt: skip
def test_what_a_connection_cannot_be_is_said(body: str, where: str, said: str) -> None:
    problem = refused(f"version: 1\nconnections: {{c: {{{body}}}}}")
    assert f"connections.c.{where}".rstrip(".") in problem
    assert said in problem


def test_the_name_of_an_endpoint_of_ours_is_no_connections() -> None:
    assert "git.internal is kept" in refused(f"version: 1\nconnections: {{git: {{{HTTP}}}}}")
    assert policy_of(f"version: 1\nconnections: {{git: {{{LLM}}}}}").connections["git"]


@pytest.mark.parametrize(
    ("body", "login"),
    [
        (LLM, ("x-api-key", "")), (f"{LLM}, dialect: openai", ("authorization", "Bearer")),
        (f"{LLM}, dialect: google", ("x-goog-api-key", "")), (f"{LLM}, header: api-key", ("api-key", "")),
        (HTTP, ("authorization", "Bearer")), (f"{HTTP}, header: private-token", ("private-token", "")),
        (f"{HTTP}, scheme: token", ("authorization", "token")), (f"{HTTP}, user: bot", ("authorization", "")),
    ],
)  # fmt: skip
def test_how_a_secret_travels_has_a_default(body: str, login: tuple[str, str]) -> None:
    connection = policy_of(f"version: 1\nconnections: {{c: {{{body}}}}}").connections["c"]
    assert isinstance(connection, LlmConnection | HttpConnection)
    assert connection.login == login


def test_a_policy_sets_prices() -> None:
    [price] = policy_of('version: 1\nprices: [{model: "qwen*", input: 0, output: 0.5}]').prices
    assert (price.price().cache_write, price.price().output, price.price().known) == (0, 0.5, True)
    problem = refused('version: 1\nprices: [{model: "x", input: -1, output: 1, over: 5}]')
    assert "prices[0].input" in problem
    assert "belong together" in refused(
        'version: 1\nprices: [{model: "x", input: 1, output: 1, over: 5}]'
    )


def test_a_header_that_frames_a_request_carries_no_secret() -> None:
    body = 'kind: llm, upstream: "https://api.acme.com", secret: KEY, header: content-length'
    said = refused(f"version: 1\nconnections: {{c: {{{body}}}}}")
    assert "connections.c.header: write the header that carries the secret" in said


def test_a_model_connection_can_be_called_by_a_host_name() -> None:
    body = 'kind: llm, upstream: "https://api.acme.com", secret: KEY'
    said = refused(f"version: 1\nconnections: {{c-: {{{body}}}}}")
    assert "c- cannot be part of a host name" in said


def test_a_pasted_key_is_not_repeated() -> None:
    body = 'kind: llm, upstream: "https://api.acme.com:8443/v1", secret: sk-canary-1'
    said = refused(f"version: 1\nconnections: {{c: {{{body}}}}}")
    assert "connections.c.secret: write the NAME of the secret" in said
    assert "canary" not in said


def test_groups_and_people_have_a_grammar() -> None:
    assert "people.A B: a name has" in refused('version: 1\npeople: {"A B": []}')
    assert "people.a[0]: write a person as channel:id" in refused("version: 1\npeople: {a: [dana]}")


def test_one_place_has_one_default() -> None:
    text = 'version: 1\nrepos:\n  a/b: {forge: local, default_for: ["*"]}\n  a/c: {forge: local, default_for: ["*"]}'
    assert "line 4, repos.a/c.default_for[0]: a/b is the default for * already" in refused(text)


def test_names_that_differ_by_capitals_only_are_refused() -> None:
    said = refused("version: 1\nrepos:\n  a/b: {forge: local}\n  A/b: {forge: local}")
    assert "repos.A/b: differs from a/b by capitals only" in said


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(PolicyFileError) as caught:
        policy_of("version: 1\nx: 1\ny: 2")
    assert len(caught.value.problems) == 2
    assert caught.value.path == Path("policy.yml")


@patient
@given(st.text() | st.text(alphabet="{}[]:*&!-? \n\t'\"#|>%@`a1.~<"))
def test_whatever_the_text_only_the_declared_error_comes_out(text: str) -> None:
    try:
        policy_of(text)
    except PolicyFileError as error:
        assert error.problems  # noqa: PT017 (either outcome is right; only another error is not)
