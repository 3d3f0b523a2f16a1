"""May this person do this, here, on this repository, with this agent? Pure, total, default deny.

A rule allows what its five lists name together; the first rule that covers the whole request
decides what is granted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from policies.connection_model import GrantedConnection, granted
from policies.keywords import found_in
from policies.model import (
    Ask,
    Choice,
    Grant,
    GrantLimits,
    GrantPublish,
    Policy,
    Refusal,
    RepoPolicy,
    RepoRead,
    Rule,
)
from policies.names import is_agent, is_repo, plain_place

MAX_OPTIONS = 100
MAX_NAMED = 3
_MIB = 1024**2


def decide(policy: Policy, ask: Ask) -> Grant | Refusal | Choice:
    if ask.repo is not None:
        return _named(policy, ask, ask.repo)
    if ask.action != "start":
        return _refusal(policy, f"Say which repository you want to {ask.action} work on.", "repos")
    return _routed(policy, ask)


def _named(policy: Policy, ask: Ask, wanted: str) -> Grant | Refusal:
    # Forges do not tell capitals apart, and people do not type them.
    repo = next((name for name in policy.repos if name.lower() == wanted.lower()), None)
    if repo is None:
        return _refusal(policy, _unknown_repo(wanted), "repos")
    return _on(policy, ask, repo, because="named in the request")


def _unknown_repo(wanted: str) -> str:
    if is_repo(wanted):
        return f"The policy does not list {wanted} under `repos`."
    return "That is not the name of a repository; write it as owner/name."


def _routed(policy: Policy, ask: Ask) -> Grant | Refusal | Choice:
    """What a word, the ticket or the place stands for, else what was set or suggested, the only one, or a question."""
    allowed = tuple(name for name in sorted(policy.repos) if _covering(policy, ask, name).rules)
    if (worded := _worded(policy, ask, allowed)) is not None:
        return worded
    if (meant := next(_defaults(policy, ask), None)) is not None:
        place, default = meant
        if default in allowed or not allowed:
            return _on(policy, ask, default, because=f"the default of {place}")
        return _choice(f"{default}, the default of {place}, is not open to you here.", allowed)
    if (hint := _hint(ask, allowed)) is not None:
        repo, because = hint
        return _on(policy, ask, repo, because=because)
    if allowed:
        return _choice("Several repositories are open to you here.", allowed)
    return _nearest_refusal(policy, ask)


def _worded(policy: Policy, ask: Ask, allowed: tuple[str, ...]) -> Grant | Refusal | Choice | None:
    """What the words of the request stand for, of what is open to the person; None if they stand for nothing."""
    words = {name: found_in(ask.text, policy.repos[name].keywords) for name in allowed}
    hits = tuple(name for name in allowed if words[name])
    if len(hits) == 1:
        return _on(policy, ask, hits[0], because=f"for the word `{words[hits[0]]}`")
    if not hits:
        return None
    said = ", ".join(f"`{words[name]}` for {name}" for name in hits[:MAX_NAMED])
    others = tuple(name for name in allowed if name not in hits)
    choice = _choice(f"Your words stand for several repositories: {said}.", (*hits, *others))
    return choice.model_copy(update={"likely": len(hits)})


def _hint(ask: Ask, allowed: tuple[str, ...]) -> tuple[str, str] | None:
    """What else says which of the allowed ones is meant, and why."""
    if ask.chosen in allowed and ask.chosen is not None:
        return ask.chosen, f"set for {ask.where}"
    if len(allowed) == 1:
        return allowed[0], "the only one allowed here"
    if ask.suggested in allowed and ask.suggested is not None:
        return ask.suggested, f"suggested by {ask.where.partition(':')[0]}"
    return None


def is_trigger(policy: Policy, topics: tuple[str, ...]) -> bool:
    """Does the policy take one of these labels or states, newly set, as a request?"""
    set_now = {plain_place(topic) for topic in topics}
    return any(plain_place(trigger) in set_now for trigger in policy.triggers)


def is_open(policy: Policy, where: str, *, shared: bool) -> bool:
    """Does any rule let anybody do anything in this place?"""
    there = Ask(person="", where=where, action="start", shared=shared)
    return any(_is_at(there, place) for rule in policy.rules for place in rule.where)


def _defaults(policy: Policy, ask: Ask) -> Iterator[tuple[str, str]]:
    """The repositories that are meant by default, each with the place that says so; the most specific first."""
    channel = ask.where.partition(":")[0]
    for place in (*ask.topics, ask.where, f"{channel}:*", "*"):
        for name, repo in policy.repos.items():
            if plain_place(place) in map(plain_place, repo.default_for):
                yield (place if place in {*ask.topics, ask.where} else ask.where), name


def approvers(policy: Policy, repo: str) -> str:
    """Who may be asked about a host that is not on the repository's list, in words; empty if nobody."""
    who = [
        name
        for rule in policy.rules
        if "approve" in rule.may and not {repo, "*"}.isdisjoint(rule.repos)
        for name in rule.who
    ]
    if "*" in who:
        return "everybody whom the policy names"
    named = [name if ":" in name else f"members of {name}" for name in dict.fromkeys(who)]
    return " or ".join(named)


def _choice(why: str, allowed: tuple[str, ...]) -> Choice:
    more = " (or name another as owner/name)" if len(allowed) > MAX_OPTIONS else ""
    return Choice(text=f"{why} Which one is meant{more}?", options=allowed[:MAX_OPTIONS])


def _nearest_refusal(policy: Policy, ask: Ask) -> Refusal:
    """No repository is open: say what is missing for the one that came nearest."""
    nearest = max(
        (_covering(policy, ask, name) for name in sorted(policy.repos)),
        key=lambda covered: covered.passed,
        default=None,
    )
    if nearest is None:
        return _refusal(policy, "The policy lists no repository under `repos`.", "repos")
    return _refusal(policy, nearest.missing, nearest.rule)


def _on(policy: Policy, ask: Ask, repo: str, *, because: str) -> Grant | Refusal:
    covered = _covering(policy, ask, repo)
    if not covered.rules:
        return _refusal(policy, covered.missing, covered.rule)
    rule = policy.rules[covered.rules[0]]
    if ask.model is not None and (missing := _no_such_model(policy, repo, ask.model)):
        return _refusal(policy, missing, f"repos.{repo}.connections")
    return _grant(policy, ask, rule, repo=repo, because=because, rule_id=covered.rule)


def _no_such_model(policy: Policy, repo: str, model: str) -> str:
    """Why work on the repository can't use a model; empty if it can. The gateway lets no other through either."""
    named = (policy.connections[name] for name in policy.repos[repo].connections)
    listed = [pattern for found in named if found.kind == "llm" for pattern in found.models]
    if any(fnmatchcase(model, pattern) for pattern in listed):
        return ""
    known = f"those are {', '.join(dict.fromkeys(listed))}" if listed else "there are none"
    return f"{model} is not among the models that the policy gives to {repo}: {known}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Covering:
    """Which rules cover a request; if none, what was missing in the rules that came nearest."""

    rules: tuple[int, ...]
    rule: str
    missing: str
    passed: int


def _covering(policy: Policy, ask: Ask, repo: str) -> _Covering:
    left = tuple(range(len(policy.rules)))
    rule_id = "rules"
    for passed, (test, missing) in enumerate(_tests(policy, ask, repo)):
        kept = tuple(i for i in left if test(policy.rules[i]))
        if not kept:
            rules = [(i, policy.rules[i]) for i in left]
            return _Covering(rules=(), rule=rule_id, missing=missing(rules), passed=passed)
        left, rule_id = kept, f"rules[{kept[0]}]"
    return _Covering(rules=left, rule=rule_id, missing="", passed=5)


_Numbered = list[tuple[int, Rule]]
_Test = tuple[Callable[[Rule], bool], Callable[[_Numbered], str]]


def _tests(policy: Policy, ask: Ask, repo: str) -> tuple[_Test, ...]:
    """What a rule must fulfil, in the order in which a person wants to hear of it."""
    actions = {ask.action}
    if ask.task_requester == ask.person and ask.action != "approve":
        actions.add("start")  # who may start work here may also steer and stop their own
    return (
        (
            lambda rule: any(_is_one_of(policy, ask, who) for who in rule.who),
            lambda _: f"The policy has no rule that names you{_APART[ask.apart]}.",
        ),
        (
            lambda rule: any(_is_at(ask, place) for place in rule.where),
            lambda rules: _not_there(ask, rules),
        ),
        (
            lambda rule: not {repo, "*"}.isdisjoint(rule.repos),
            lambda rules: f"The policy does not open {repo} to you here ({_ids(rules)}).",
        ),
        (
            lambda rule: not actions.isdisjoint(rule.may),
            lambda rules: (
                f"The policy does not let you {_DOING[ask.action]} {repo} here ({_ids(rules)})."
            ),
        ),
        (
            lambda rule: ask.agent is None or not {ask.agent, "*"}.isdisjoint(rule.agents),
            lambda rules: (
                f"The policy allows only {_agents(rules)} here, not {_agent(ask)} ({_ids(rules)})."
            ),
        ),
    )


_DOING = {
    "start": "start work on",
    "steer": "steer work on",
    "stop": "stop work on",
    "approve": "approve work on",
    "settings": "make a default of",
}
_APART = {
    "": "",
    "unknown": " (who you are here could not be found out, and `*` means members only)",
    "guest": " (you are a guest, and `*` means members only)",
    "outsider": " (you are of another organization, and `*` means members only)",
    "bot": " (you are a bot, and `*` means people only)",
}


def _not_there(ask: Ask, rules: _Numbered) -> str:
    why = ", which is shared with another organization" if ask.shared else ""
    return f"The policy names you, but not in {ask.where}{why} ({_ids(rules)})."


def _is_one_of(policy: Policy, ask: Ask, who: str) -> bool:
    if who == "*":
        return not ask.apart
    # A group's name has no colon, so that nobody is taken for a group by their id.
    return ask.person == who if ":" in who else ask.person in policy.people.get(who, ())


def _is_at(ask: Ask, place: str) -> bool:
    if place == ask.where:
        return True
    wide = place == "*" or (place.endswith(":*") and ask.where.startswith(place[:-1]))
    return wide and not ask.shared


def _ids(rules: _Numbered) -> str:
    more = ", …" if len(rules) > MAX_NAMED else ""
    return ", ".join(f"rules[{i}]" for i, _ in rules[:MAX_NAMED]) + more


def _agent(ask: Ask) -> str:
    return (
        f"the agent {ask.agent}" if ask.agent and is_agent(ask.agent) else "an agent of that name"
    )


def _agents(rules: _Numbered) -> str:
    return ", ".join(sorted({agent for _, rule in rules for agent in rule.agents}))


def operators(policy: Policy) -> tuple[list[str], list[str]]:
    """Who may change what the policy leaves to people: groups, and persons."""
    who = {w for r in policy.rules if "settings" in r.may for w in r.who}
    groups = sorted(w for w in who if w != "*" and ":" not in w)
    return groups, sorted(w for w in who if ":" in w)


def _refusal(policy: Policy, reason: str, rule: str) -> Refusal:
    groups, persons = operators(policy)
    names = [*(f"members of {group}" for group in groups), *persons]
    text = " or ".join(names) or "whoever edits the policy file"
    return Refusal(reason=reason, rule=rule, who_can_change=f"This can be changed by {text}.")


def _grant(policy: Policy, ask: Ask, rule: Rule, *, repo: str, because: str, rule_id: str) -> Grant:
    described = policy.repos[repo]
    return Grant(
        action=ask.action,
        repo=repo,
        repo_reason=because,
        forge=described.forge,
        agents=("*",) if "*" in rule.agents else rule.agents,
        agent=ask.agent,
        model=ask.model or "",
        rule=rule_id,
        egress=described.egress.hosts,
        profiles=described.egress.profiles,
        connections=_connections(policy, described),
        reads=tuple(RepoRead(forge=policy.repos[r].forge, repo=r) for r in described.reads),
        limits=_limits(policy),
        publish=GrantPublish(**described.publish.model_dump()),
        runtime=described.sandbox.runtime,
        denied_commands=described.commands.deny,
        brokered_commands=described.commands.broker,
        follow=tuple(place for place in described.follow if place != ask.where),
        review_state=described.review_state,
    )


def _connections(policy: Policy, repo: RepoPolicy) -> tuple[GrantedConnection, ...]:
    named = dict.fromkeys(repo.connections)
    return tuple(granted(name, policy.connections[name], policy.prices) for name in named)


def _limits(policy: Policy) -> GrantLimits:
    limits = policy.limits
    return GrantLimits(
        wall_minutes=limits.wall_minutes,
        cost_usd=limits.cost_usd,
        turns=limits.turns,
        memory_mib=limits.memory // _MIB,
        cpus=limits.cpus,
        pids=limits.pids,
        disk_mib=limits.disk // _MIB,
        tasks_per_person=limits.tasks_per_person,
        tasks_per_repo=limits.tasks_per_repo,
    )
