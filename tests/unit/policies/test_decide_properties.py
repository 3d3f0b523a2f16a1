"""Whatever policy and request: nothing is granted that no rule grants."""

from hypothesis import given
from hypothesis import strategies as st

from policies.decide import decide
from policies.model import Ask, Choice, Grant, Policy, Refusal, Rule
from tests.support.fuzz import fuzzed

PERSONS = ("slack:U1", "slack:U2", "github:u1")
GROUPS = ("team", "owners")
PLACES = ("slack:C1", "slack:C2", "github:acme")
REPOS = ("acme/web", "acme/api", "acme/app")
AGENTS = ("claude-code", "script")
ACTIONS = ("start", "steer", "stop")


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


RULES = st.fixed_dictionaries(
    {
        "who": some("*", *GROUPS, *PERSONS),
        "where": some("*", "slack:*", *PLACES),
        "repos": some("*", *REPOS[:2]),
        "agents": some("*", *AGENTS),
        "may": some(*ACTIONS, "approve", "settings"),
    }
)


WORDS = st.lists(st.sampled_from(["cart", "checkout"]), max_size=2, unique=True)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    groups = st.lists(st.sampled_from(PERSONS), unique=True)
    places = draw(st.permutations((*PLACES, "slack:*", "*")))
    cuts = draw(st.tuples(st.integers(0, 2), st.integers(2, 4)))
    return Policy.model_validate(
        {
            "version": 1,
            "people": {group: draw(groups) for group in GROUPS},
            "rules": draw(st.lists(RULES, max_size=4)),
            "repos": {
                "acme/web": {
                    "forge": "local",
                    "default_for": places[: cuts[0]],
                    "keywords": draw(WORDS),
                },
                "acme/api": {
                    "forge": "github",
                    "default_for": places[cuts[0] : cuts[1]],
                    "keywords": draw(WORDS),
                },
            },
        }
    )


ASKS = st.builds(
    Ask,
    person=st.sampled_from((*PERSONS, *GROUPS, "*")) | st.text(),
    where=st.sampled_from((*PLACES, "slack:*", "*")) | st.text(),
    action=st.sampled_from(ACTIONS),
    repo=st.none() | st.sampled_from((*REPOS, "*", "ACME/Web")) | st.text(),
    agent=st.none() | st.sampled_from((*AGENTS, "*")) | st.text(),
    text=st.sampled_from(["", "the cart", "cart and checkout"]) | st.text(),
    task_requester=st.none() | st.sampled_from(PERSONS),
)


def in_words(policy: Policy, rule: Rule, ask: Ask, repo: str) -> bool:
    """The meaning of a rule, written down a second time."""
    members = {person for who in rule.who for person in policy.people.get(who, (who,))}
    channel = ask.where.split(":")[0]
    places = {ask.where, "*"} | ({f"{channel}:*"} if ":" in ask.where else set())
    own = ask.task_requester == ask.person
    return (
        ("*" in rule.who or (ask.person in members and ask.person not in GROUPS))
        and bool(places & set(rule.where))
        and bool({repo, "*"} & set(rule.repos))
        and (ask.action in rule.may or (own and "start" in rule.may))
        and (ask.agent is None or ask.agent in rule.agents or "*" in rule.agents)
    )


@fuzzed
@given(policies(), ASKS)
def test_a_grant_is_what_its_rule_allows_and_the_first_that_does(policy: Policy, ask: Ask) -> None:
    answer = decide(policy, ask)
    if isinstance(answer, Grant):
        covering = [i for i, r in enumerate(policy.rules) if in_words(policy, r, ask, answer.repo)]
        assert answer.rule == f"rules[{covering[0]}]"
        assert answer.repo in policy.repos
        assert ask.repo is None or answer.repo == ask.repo.lower()
        assert (answer.action, answer.agent) == (ask.action, ask.agent)
        allowed = policy.rules[covering[0]].agents
        assert set(answer.agents) <= set(allowed)


@fuzzed
@given(policies(), ASKS)
def test_what_a_rule_allows_is_granted(policy: Policy, ask: Ask) -> None:
    if ask.repo in policy.repos:
        allowed = any(in_words(policy, rule, ask, ask.repo) for rule in policy.rules)
        assert isinstance(decide(policy, ask), Grant) == allowed


@fuzzed
@given(policies(), ASKS)
def test_a_choice_offers_only_what_would_be_granted(policy: Policy, ask: Ask) -> None:
    answer = decide(policy, ask)
    if isinstance(answer, Choice):
        assert ask.repo is None
        for repo in answer.options:
            named = ask.model_copy(update={"repo": repo})
            assert isinstance(decide(policy, named), Grant)


@fuzzed
@given(policies(), ASKS)
def test_a_refusal_is_always_explained(policy: Policy, ask: Ask) -> None:
    answer = decide(policy, ask)
    if isinstance(answer, Refusal):
        assert answer.reason
        assert answer.rule
        assert answer.who_can_change.startswith("This can be changed by ")
