"""A host that is on no list: asked about once, decided by who may, and held to exactly."""

from datetime import timedelta
from typing import Any

import pytest

from bot.approvals import MAX_ASKED, opened
from bot.in_force import InForce
from bot.states import TaskState
from bot.store import approvals, runs
from integrations.channel import Question
from policies.hosts import EgressRule
from policies.model import Policy
from runner.protocol import Egress, HostOpening, RunKey
from tests.contract.flow.office import Office
from tests.contract.flow.yard import Yard, done
from tests.support.builders import POLICY

pytestmark = pytest.mark.redis

HOST = "registry.example.com"
REPO = "acme/web"


def denied(host: str = HOST, **changes: Any) -> Egress:
    values = {
        "verdict": "deny",
        "host": host,
        "port": 443,
        "method": "GET",
        "rule": "",
        "reason": "unlisted",
    }
    return Egress.model_validate({**values, **changes})


async def questions(office: Office) -> list[Question]:
    return await office.questions()


async def rules(office: Office) -> tuple[EgressRule, ...]:
    task = await office.task()
    async with office.store.read() as conn:
        rows = await approvals.in_force(conn, repo=task.repo, task=task.id, now=office.clock.now())
    return opened(rows)


@pytest.fixture
async def asked(yard: Yard) -> Yard:
    """An agent that listens wants a host, and everybody was asked."""
    run = await yard.running()
    async with yard.office.store.begin() as tx:
        await runs.update(tx, run.task, run.fence, agent="claude-code")
    await yard.tell(run, denied())
    await questions(yard.office)
    return yard


async def test_a_denied_host_is_asked_about_once(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, denied(), denied(method="POST"), denied(port=80))
    [question] = await questions(yard.office)
    assert HOST in question.text
    assert [o.words for o in question.options] == [
        f"allow {HOST}",
        f"allow {HOST} for {REPO}",
        f"block {HOST}",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "egress:registry.example.com"},
        {"port": 8443},
        {"host": "registry"},
        {"host": "*.example.com"},
        {"host": "git.internal"},
        {"verdict": "allow"},
    ],
)
async def test_what_a_ruling_could_not_open_is_not_asked_about(
    yard: Yard, changes: dict[str, Any]
) -> None:
    await yard.tell(await yard.running(), denied(**changes))
    assert await questions(yard.office) == []


async def test_where_nobody_may_approve_nobody_is_asked(yard: Yard) -> None:
    data = POLICY.model_dump(mode="json")
    yard.applier.in_force = InForce(Policy.model_validate({**data, "rules": data["rules"][:1]}))
    await yard.tell(await yard.running(), denied())
    assert await questions(yard.office) == []


async def test_an_errand_asks_about_a_few_hosts_only(yard: Yard) -> None:
    hosts = [f"h{n}.example.com" for n in range(MAX_ASKED + 3)]
    await yard.tell(await yard.running(), *map(denied, hosts))
    assert len(await questions(yard.office)) == MAX_ASKED


@pytest.mark.parametrize(
    "words", [f"allow {HOST}", f"Allow `{HOST}` once.", f"allow {HOST.upper()}"]
)
async def test_allowing_once_opens_exactly_what_was_wanted_to_this_errand(
    asked: Yard, words: str
) -> None:
    await asked.office.hear(words)
    rule = EgressRule(host=HOST, ports=("https:443",), methods=("GET", "HEAD"))
    assert await rules(asked.office) == (rule,)
    [allow, steer] = await asked.office.open_commands()
    assert HostOpening.model_validate_json(allow.text).rule() == rule
    assert (allow.kind, steer.kind) == ("allow", "steer")
    assert (await asked.office.notices())[
        -1
    ] == f"dana allowed {HOST} for this errand and told the agent."
    [row] = await asked.office.record("egress_ruling")
    assert (row.decision, row.actor, row.detail["host"]) == ("allow", "fake:dana", HOST)


async def test_the_gateway_is_told_by_a_command_that_a_worker_reads(asked: Yard) -> None:
    await asked.office.hear(f"allow {HOST}")
    await asked.dispatcher.send_commands()
    kinds = [(c.kind, c.opening.host if c.opening else "") for c in await asked.host.commands()]
    assert kinds == [("allow", HOST), ("steer", "")]


async def test_a_method_that_writes_is_opened_only_if_it_was_wanted(yard: Yard) -> None:
    await yard.tell(await yard.running(), denied(method="POST"))
    await yard.office.hear(f"allow {HOST}")
    [rule] = await rules(yard.office)
    assert set(rule.methods or ()) == {"GET", "HEAD", "POST"}


async def test_a_ruling_for_the_repository_lasts_and_ends(asked: Yard) -> None:
    office = asked.office
    await office.hear(f"allow {HOST} for {REPO}")
    other = (await office.task()).model_copy(update={"id": "another"})
    async with office.store.read() as conn:
        now = office.clock.now()
        later = now + timedelta(days=office.policy.limits.approval_days, seconds=1)
        assert len(await approvals.in_force(conn, repo=REPO, task=other.id, now=now)) == 1
        assert await approvals.in_force(conn, repo=REPO, task=other.id, now=later) == []
        assert await approvals.in_force(conn, repo="acme/api", task=other.id, now=now) == []


@pytest.mark.parametrize("words", [f"block {HOST}", f"keep {HOST} blocked"])
async def test_keeping_a_host_blocked_tells_the_agent(asked: Yard, words: str) -> None:
    await asked.office.hear(words)
    assert await rules(asked.office) == ()
    [steer] = await asked.office.open_commands()
    assert (steer.kind, HOST in steer.text) == ("steer", True)
    assert "kept" in (await asked.office.notices())[-1]


async def test_a_later_ruling_counts(asked: Yard) -> None:
    await asked.office.hear(f"allow {HOST}")
    await asked.office.hear(f"block {HOST}")
    assert await rules(asked.office) == ()


async def test_who_may_not_approve_is_refused_though_it_is_their_errand(yard: Yard) -> None:
    await yard.running(author="fake:lee")
    await yard.office.hear(f"allow {HOST}", author="fake:lee")
    assert (await yard.office.notices())[-1].startswith("Refused:")
    assert await rules(yard.office) == ()


@pytest.mark.parametrize("words", ["allow *.example.com", "allow 192.0.2.7", "allow git.internal"])
async def test_what_is_no_host_is_said_to_be_none(asked: Yard, words: str) -> None:
    await asked.office.hear(words)
    assert "is no host" in (await asked.office.notices())[-1]
    assert await rules(asked.office) == ()


async def test_words_that_only_sound_like_a_ruling_are_for_the_agent(asked: Yard) -> None:
    await asked.office.hear("block merging")
    assert [c.text for c in await asked.office.open_commands()] == ["block merging"]


async def test_after_the_end_a_ruling_is_kept_for_the_next_round(asked: Yard) -> None:
    await asked.office.put(TaskState.FAILED)
    await asked.office.hear(f"allow {HOST}")
    assert len(await rules(asked.office)) == 1
    assert await asked.office.open_commands() == []


async def test_a_script_is_told_nothing_that_it_could_not_understand(yard: Yard) -> None:
    await yard.tell(await yard.running(), denied())
    await yard.office.hear(f"allow {HOST}")
    assert [c.kind for c in await yard.office.open_commands()] == ["allow"]
    assert (await yard.office.notices())[-1] == f"dana allowed {HOST} for this errand."


async def test_the_question_names_what_is_wanted_for_how_long_and_who_decides(asked: Yard) -> None:
    [question] = await questions(asked.office)
    assert question.text == (
        f"The agent wants {HOST} (GET, port 443), which is not on {REPO}'s list.\n"
        f"Once opens it to this errand only, for {REPO} to all of its errands for 30 days. "
        "To be decided by members of maintainers, until this errand ends."
    )


async def press(office: Office, words: str, message_id: str) -> None:
    pressed = {"pressed": True, "message_id": message_id}
    await office.intake.receive(office.inbound(words).model_copy(update=pressed))
    await office.desk.work_off()


async def test_a_button_decides_once(asked: Yard) -> None:
    office = asked.office
    [shown] = [p for p in office.channel.posted if isinstance(p.reply, Question)]
    await press(office, f"allow {HOST}", shown.message_id)
    await press(office, f"block {HOST}", shown.message_id)
    assert [rule.host for rule in await rules(office)] == [HOST]


async def test_what_nobody_decided_is_settled_with_the_errand(asked: Yard) -> None:
    office = asked.office
    task = await office.task()
    run = RunKey(task=task.id, fence=task.fence)
    await asked.tell(run, denied("other.example.com"))
    await office.hear(f"allow {HOST}")
    await asked.tell(run, done(changed=False))
    chosen = [question.chosen for question in await questions(office)]
    assert chosen == ["allowed by dana", "not decided: the errand has ended"]
    # A click that was on its way opens nothing.
    shown = [p for p in office.channel.posted if isinstance(p.reply, Question)][-1]
    await press(office, "allow other.example.com", shown.message_id)
    assert [rule.host for rule in await rules(office)] == [HOST]


async def test_a_later_round_asks_again_but_not_for_what_was_blocked(asked: Yard) -> None:
    office = asked.office
    task = await office.task()
    run = RunKey(task=task.id, fence=task.fence)
    await asked.tell(run, denied("other.example.com"))
    await office.hear(f"block {HOST}")
    await asked.tell(run, done(changed=False))
    await office.hear("once more")
    again = await asked.again()
    await asked.tell(again, denied(), denied("other.example.com"))
    texts = [question.text for question in await questions(office)]
    assert [HOST in text for text in texts] == [True, False, False]
    assert ["other.example.com" in text for text in texts] == [False, True, True]
