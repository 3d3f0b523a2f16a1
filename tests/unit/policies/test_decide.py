from typing import Any

import pytest

from policies.connection_model import GrantedLlm
from policies.decide import MAX_OPTIONS, decide, is_open
from policies.model import Ask, Choice, Grant, Policy, Refusal
from tests.unit.policies.samples import TEAM, policy_of

POLICY = policy_of(TEAM)


def ask(**changes: Any) -> Ask:
    return Ask.model_validate(
        {"person": "slack:U0KIM", "where": "slack:C0WEB", "action": "start", **changes}
    )


def granted(policy: Policy = POLICY, **changes: Any) -> Grant:
    answer = decide(policy, ask(**changes))
    assert isinstance(answer, Grant)
    return answer


def refused(policy: Policy = POLICY, **changes: Any) -> Refusal:
    answer = decide(policy, ask(**changes))
    assert isinstance(answer, Refusal)
    assert answer.reason.endswith(".")
    assert answer.who_can_change.endswith(".")
    return answer


def test_a_grant_carries_all_that_a_run_needs() -> None:
    grant = granted(repo="acme/web")
    assert (grant.repo, grant.forge, grant.rule) == ("acme/web", "github", "rules[0]")
    assert (grant.agents, grant.agent) == (("claude-code",), None)
    assert grant.repo_reason == "named in the request"
    assert [(rule.host, rule.private) for rule in grant.egress] == [
        ("registry.acme.com", False),
        ("db.corp.acme.com", True),
    ]
    assert grant.profiles == ("none",)
    assert (grant.limits.wall_minutes, grant.limits.memory_mib) == (30, 3814)
    assert (grant.limits.disk_mib, grant.limits.turns) == (8192, 20)
    assert grant.publish.protected == ("infra/**",)
    assert (grant.publish.max_files, grant.publish.max_bytes) == (50, 5_000_000)
    assert grant.publish.draft


def test_a_grant_carries_connections_by_the_names_of_their_secrets() -> None:
    connection, database = granted(repo="acme/web").connections
    assert (database.name, database.upstream) == ("staging-db", "db.staging.acme.internal:5432")
    assert isinstance(connection, GrantedLlm)
    assert (connection.name, connection.secret) == ("anthropic", "ANTHROPIC_API_KEY")
    assert (connection.login, connection.models) == (("x-api-key", ""), ("claude-*",))
    assert granted(person="slack:U0DANA", repo="acme/api").connections == ()


def test_a_grant_survives_json() -> None:
    grant = granted(repo="acme/web")
    assert Grant.model_validate(grant.model_dump(mode="json")) == grant


def test_a_repository_is_found_whatever_its_capitals() -> None:
    assert granted(repo="Acme/WEB").repo == "acme/web"


def test_the_first_rule_that_covers_the_whole_request_decides() -> None:
    assert granted(person="slack:U0DANA", repo="acme/web").rule == "rules[0]"
    assert granted(person="slack:U0DANA", repo="acme/web", agent="codex").rule == "rules[2]"
    assert granted(person="slack:U0DANA", repo="acme/api").agents == ("*",)
    assert granted(person="github:dana", where="github:acme", repo="acme/api").rule == "rules[2]"


def test_an_agent_that_was_asked_for_is_in_the_grant() -> None:
    assert granted(repo="acme/web", agent="claude-code").agent == "claude-code"


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"where": "slack:C9"}, "rules[0]", "names you, but not in slack:C9 (rules[0])."),
        ({"repo": "acme/api"}, "rules[0]", "does not open acme/api to you here (rules[0])."),
        ({"agent": "codex"}, "rules[0]", "only claude-code here, not the agent codex (rules[0])."),
        ({"agent": "<!channel>"}, "rules[0]", "here, not an agent of that name (rules[0])."),
        ({"action": "stop", "repo": "acme/web"}, "rules[0]", "let you stop work on acme/web here"),
        ({"repo": "acme/app"}, "repos", "does not list acme/app under `repos`."),
        ({"repo": "<!channel>"}, "repos", "That is not the name of a repository"),
        ({"action": "stop"}, "repos", "Say which repository you want to stop work on."),
    ],
)
def test_a_refusal_says_why_and_who_can_change_it(
    changes: dict[str, Any], rule: str, said: str
) -> None:
    refusal = refused(**changes)
    assert said in refusal.reason
    assert refusal.rule == rule
    assert refusal.who_can_change == "This can be changed by members of maintainers."


def test_who_is_named_in_no_rule_is_told_so() -> None:
    policy = policy_of(
        "version: 1\nrepos: {a/b: {forge: local}}\nrules:\n"
        '  - {who: ["slack:U1"], where: ["*"], repos: ["*"], agents: ["*"], may: [start, settings]}'
    )
    refusal = refused(policy, repo="a/b")
    assert refusal.reason == "The policy has no rule that names you."
    assert refusal.rule == "rules"
    assert refusal.who_can_change == "This can be changed by slack:U1."


def test_an_empty_policy_sends_people_to_the_file() -> None:
    refusal = refused(policy_of("version: 1"))
    assert refusal.reason == "The policy lists no repository under `repos`."
    assert refusal.who_can_change == "This can be changed by whoever edits the policy file."


def test_a_long_list_of_rules_is_cut() -> None:
    rule = '  - {who: ["*"], where: ["*"], repos: [a/b], agents: [x], may: [start]}\n'
    text = f"version: 1\nrepos: {{a/b: {{forge: local}}}}\nrules:\n{rule * 5}"
    assert "(rules[0], rules[1], rules[2], …)" in refused(policy_of(text), agent="y").reason


def test_nobody_is_taken_for_a_group_by_their_id() -> None:
    assert refused(person="maintainers", where="slack:C9", repo="acme/web").rule == "rules[0]"


def test_a_place_pattern_stays_in_its_channel() -> None:
    assert granted(person="slack:U0LEE", where="slack:C9", action="stop", repo="acme/api")
    assert refused(person="slack:U0LEE", where="slacker:C9", action="stop", repo="acme/api")


def test_the_requester_may_steer_and_stop_what_they_may_start() -> None:
    for action in ("steer", "stop"):
        grant = granted(action=action, repo="acme/web", task_requester="slack:U0KIM")
        assert (grant.action, grant.rule) == (action, "rules[0]")
        assert refused(action=action, repo="acme/web", task_requester="slack:U0LEE")
        assert refused(action=action, repo="acme/api", task_requester="slack:U0KIM")


def test_who_may_stop_need_not_be_the_requester() -> None:
    assert granted(person="slack:U0LEE", action="stop", repo="acme/api", task_requester="slack:U1")


def test_being_the_requester_starts_nothing() -> None:
    assert refused(person="slack:U0LEE", repo="acme/api", task_requester="slack:U0LEE")


def test_the_default_of_the_place_is_taken_first() -> None:
    grant = granted(person="slack:U0DANA")
    assert (grant.repo, grant.repo_reason) == ("acme/web", "the default of slack:C0WEB")


def routing(*repos: str, rule: str = "*") -> Policy:
    described = "\n".join(f"  {repo}" for repo in repos)
    return policy_of(
        f"version: 1\nrepos:\n{described}\nrules:\n"
        f'  - {{who: ["*"], where: ["*"], repos: ["{rule}"], agents: ["*"], may: [start]}}'
    )


def test_the_closest_default_wins() -> None:
    policy = routing(
        'a/all: {forge: local, default_for: ["*"]}',
        'a/slack: {forge: local, default_for: ["slack:*"]}',
        'a/web: {forge: local, default_for: ["slack:C0WEB"]}',
    )
    assert granted(policy).repo == "a/web"
    assert granted(policy, where="slack:C9").repo == "a/slack"
    assert granted(policy, where="console:main").repo == "a/all"


WORDED = routing(
    'a/api: {forge: local, default_for: ["slack:C0WEB"], keywords: [invoice]}',
    "a/shop: {forge: local, keywords: [checkout, point of sale]}",
    "a/web: {forge: local, keywords: [cart, checkout]}",
)


@pytest.mark.parametrize(
    ("text", "repo", "because"),
    [
        ("The cart loses items", "a/web", "for the word `cart`"),
        ("POINT of\n  Sale: fix it", "a/shop", "for the word `point of sale`"),
        ("mend the invoice.", "a/api", "for the word `invoice`"),
        ("the cartoon", "a/api", "the default of slack:C0WEB"),
        ("see x/cart and cart-1", "a/api", "the default of slack:C0WEB"),
        ("run ```cart```", "a/api", "the default of slack:C0WEB"),
        ("", "a/api", "the default of slack:C0WEB"),
    ],
)
def test_a_word_of_the_request_stands_for_its_repository(
    text: str, repo: str, because: str
) -> None:
    grant = granted(WORDED, text=text)
    assert (grant.repo, grant.repo_reason) == (repo, because)


def test_what_is_named_comes_before_any_word() -> None:
    grant = granted(WORDED, text="the cart", repo="a/api")
    assert (grant.repo, grant.repo_reason) == ("a/api", "named in the request")


def test_words_that_stand_for_several_lead_to_a_question_with_those_first() -> None:
    answer = decide(WORDED, ask(text="the checkout fails"))
    assert isinstance(answer, Choice)
    assert (answer.options, answer.likely) == (("a/shop", "a/web", "a/api"), 2)
    assert answer.text == (
        "Your words stand for several repositories: `checkout` for a/shop, `checkout` for a/web. "
        "Which one is meant?"
    )


def test_words_open_nothing_that_is_closed() -> None:
    closed = routing("a/b: {forge: local}", "a/web: {forge: local, keywords: [cart]}", rule="a/b")
    assert granted(closed, text="the cart").repo == "a/b"


def test_the_only_one_allowed_is_taken_without_a_question() -> None:
    grant = granted(routing("a/b: {forge: local}", "a/c: {forge: local}", rule="a/c"))
    assert (grant.repo, grant.repo_reason) == ("a/c", "the only one allowed here")


def test_several_lead_to_a_question() -> None:
    answer = decide(routing("a/c: {forge: local}", "a/b: {forge: local}"), ask())
    assert isinstance(answer, Choice)
    assert answer.options == ("a/b", "a/c")
    assert answer.text == "Several repositories are open to you here. Which one is meant?"


def test_a_question_has_at_most_a_hundred_options() -> None:
    answer = decide(routing(*(f"a/r{i:02}: {{forge: local}}" for i in range(101))), ask())
    assert isinstance(answer, Choice)
    assert len(answer.options) == MAX_OPTIONS
    assert "or name another as owner/name" in answer.text


def test_work_meant_for_a_closed_default_goes_nowhere_else_unasked() -> None:
    policy = routing(
        'a/web: {forge: local, default_for: ["slack:C0WEB"]}', "a/b: {forge: local}", rule="a/b"
    )
    answer = decide(policy, ask())
    assert isinstance(answer, Choice)
    assert answer.options == ("a/b",)
    assert "a/web, the default of slack:C0WEB, is not open to you here." in answer.text


def test_where_nothing_is_open_the_nearest_rule_is_named() -> None:
    assert refused(where="slack:C9").rule == "rules[0]"
    only = routing('a/web: {forge: local, default_for: ["slack:C0WEB"]}', "a/b: {forge: local}")
    assert refused(only, action="start", agent="x", repo="a/c").rule == "repos"


def test_a_model_is_granted_if_a_connection_of_the_repository_lists_it() -> None:
    assert granted(repo="acme/web", model="claude-opus-4-5").model == "claude-opus-4-5"
    assert granted(repo="acme/web").model == ""


def test_another_model_is_refused_with_those_that_are_listed() -> None:
    reason = refused(repo="acme/web", model="gpt-5").reason
    assert reason == (
        "gpt-5 is not among the models that the policy gives to acme/web: those are claude-*."
    )
    none = refused(person="slack:U0DANA", repo="acme/api", model="claude-opus-4-5").reason
    assert none.endswith("acme/api: there are none.")


@pytest.mark.parametrize(
    ("where", "shared", "is_so"),
    [
        (["slack:C0WEB"], False, True),
        (["slack:C0WEB"], True, True),
        (["slack:*"], False, True),
        (["slack:*"], True, False),
        (["slack:C0API", "linear:*"], False, False),
        ([], False, False),
    ],
)
def test_a_place_is_open_where_a_rule_names_it(
    where: list[str], *, shared: bool, is_so: bool
) -> None:
    rule = {
        "who": ["slack:U0KIM"],
        "where": where,
        "repos": ["*"],
        "agents": ["*"],
        "may": ["start"],
    }
    policy = Policy.model_validate({**POLICY.model_dump(), "rules": [rule] if where else []})
    assert is_open(policy, "slack:C0WEB", shared=shared) is is_so
