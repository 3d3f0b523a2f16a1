"""What people say, and what it leads to."""

import asyncio
from pathlib import Path

import pytest

from bot.intake import Intake, Signal
from bot.states import TaskState
from bot.store.engine import Store
from bot.store.errors import StoreError
from integrations.channel import Mark
from policies.model import Policy
from tests.contract.flow.office import Office
from tests.support.builders import POLICY

ASK = "acme/web fix the login test"
UNCLEAR = "fix the login test"


async def test_a_delivery_is_stored_when_receive_returns(office: Office) -> None:
    assert await office.intake.receive(office.inbound(ASK))
    assert await office.inbox_states() == ["new"]


async def test_a_delivery_that_cannot_be_stored_is_not_acknowledged(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'empty.db'}")
    office = Office(store=store)
    with pytest.raises(StoreError):
        await Intake(store=store, arrived=Signal()).receive(office.inbound(ASK))
    await store.close()


async def test_the_same_event_twice_is_one_task(office: Office) -> None:
    inbound = await office.hear(ASK)
    assert not await office.intake.receive(inbound)
    await office.desk.work_off()
    assert len(await office.tasks()) == 1


async def test_a_hundred_deliveries_at_once_are_one_row(office: Office) -> None:
    inbound = office.inbound(ASK)
    new = await asyncio.gather(*(office.intake.receive(inbound) for _ in range(100)))
    assert sum(new) == 1
    assert await office.inbox_states() == ["new"]


async def test_a_delivery_that_two_replicas_have_read_is_dealt_with_once(office: Office) -> None:
    await office.intake.receive(office.inbound(ASK))
    await asyncio.gather(office.desk.work_off(), office.desk.work_off())
    assert len(await office.tasks()) == 1
    assert await office.open_commands() == []


async def test_a_mention_and_its_message_are_one_task(office: Office) -> None:
    await office.hear(ASK, event="Ev-mention", message="7.0")
    await office.hear(ASK, event="Ev-message", message="7.0", addressed=False)
    assert len(await office.tasks()) == 1
    assert await office.open_commands() == []


async def test_chatter_without_a_task_is_ignored(office: Office) -> None:
    await office.hear(ASK, addressed=False)
    assert await office.inbox_states() == ["ignored"]
    assert await office.tasks() == []
    assert await office.notices() == []


async def test_a_granted_request_is_seen_shown_and_recorded(office: Office) -> None:
    await office.hear(ASK)
    assert await office.marks() == {Mark.SEEN}
    [card] = await office.cards()
    assert (card.repo, card.state, card.live) == ("acme/web", "queued", True)
    [granted] = await office.record("start")
    assert (granted.decision, granted.actor) == ("granted", "fake:dana")


async def test_a_refusal_says_the_rule_and_who_can_change_it(office: Office) -> None:
    await office.hear("acme/api fix it", author="fake:lee")
    [said] = await office.notices()
    assert said.startswith("Refused:")
    assert "acme/api" in said
    assert "rules[0]" in said
    assert "members of maintainers" in said
    assert await office.tasks() == []


async def test_an_option_names_the_repository(office: Office) -> None:
    await office.hear("fix it repo=acme/api")
    task = await office.task()
    assert (task.repo, task.prompt) == ("acme/api", "fix it")


async def test_an_option_names_the_agent(office: Office) -> None:
    await office.hear("fix it repo=acme/api agent=script")
    assert (await office.task()).grant["agent"] == "script"


async def test_an_unclear_request_is_answered_with_a_question(office: Office) -> None:
    await office.hear(UNCLEAR)
    [question] = await office.questions()
    assert [option.words for option in question.options] == ["acme/api", "acme/web"]
    assert await office.tasks() == []


@pytest.mark.parametrize("answer", ["acme/api", "`acme/api`", "Acme/API", "in acme/api please"])
async def test_the_requester_answers_and_the_first_request_starts(
    office: Office, answer: str
) -> None:
    await office.hear(UNCLEAR)
    await office.hear(answer, addressed=False)
    task = await office.task()
    assert (task.repo, task.prompt, task.message_id) == ("acme/api", UNCLEAR, "1.0")
    assert await office.marks("1.0") == {Mark.SEEN}


async def test_an_answer_of_somebody_else_starts_nothing(office: Office) -> None:
    await office.hear(UNCLEAR)
    await office.hear("acme/api", addressed=False, author="fake:lee")
    assert await office.tasks() == []


async def test_a_question_is_answered_once(office: Office) -> None:
    await office.hear(UNCLEAR)
    await office.hear("acme/api", addressed=False)
    await office.hear("acme/web", addressed=False)
    assert (await office.task()).repo == "acme/api"


async def test_an_unaddressed_answer_without_a_repository_is_ignored(office: Office) -> None:
    await office.hear(UNCLEAR)
    await office.hear("hm, good question", addressed=False)
    assert len(await office.questions()) == 1
    assert await office.tasks() == []


async def test_an_addressed_answer_without_a_repository_asks_again(office: Office) -> None:
    await office.hear(UNCLEAR)
    await office.hear("the one with the website")
    assert len(await office.questions()) == 2
    await office.hear("acme/api")
    assert (await office.task()).prompt == UNCLEAR


async def test_a_question_to_one_person_survives_a_question_to_another(office: Office) -> None:
    office.policy = office.policy.model_copy(
        update={"people": {"maintainers": ("fake:dana", "fake:lee")}}
    )
    await office.hear(UNCLEAR)
    await office.hear("update the docs", author="fake:lee")
    await office.hear("acme/api", addressed=False)
    assert (await office.task()).prompt == UNCLEAR


async def test_stop_takes_an_open_question_back(office: Office) -> None:
    await office.hear(UNCLEAR)
    await office.hear("stop")
    await office.hear("acme/api", addressed=False)
    assert await office.tasks() == []


@pytest.mark.parametrize("word", ["help", "status", "stop", "retry", ""])
async def test_a_word_without_a_task_is_answered_with_help(office: Office, word: str) -> None:
    await office.hear(word)
    [said] = await office.notices()
    assert "owner/name" in said
    assert await office.tasks() == []


async def test_status_tells_title_repository_and_state(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("status")
    [said] = await office.notices()
    assert all(word in said for word in ("fix the login test", "acme/web", "queued"))


@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.SUCCEEDED])
async def test_thanks_begin_and_steer_nothing(office: Office, state: TaskState) -> None:
    await office.hear(ASK)
    await office.put(state)
    await office.hear("Thanks!", addressed=False)
    assert await office.open_commands() == []
    assert await office.notices() == []
    assert [(t.state, t.round) for t in await office.tasks()] == [(state, 1)]


async def test_help_in_a_thread_with_a_task_steers_nothing(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("help")
    assert await office.open_commands() == []


@pytest.mark.parametrize(
    "state", [TaskState.QUEUED, TaskState.STARTING, TaskState.RUNNING, TaskState.PUBLISHING]
)
async def test_a_reply_to_live_work_is_kept_as_a_steer(office: Office, state: TaskState) -> None:
    await office.hear(ASK)
    await office.put(state)
    await office.hear("use the mirror", addressed=False)
    assert [(c.kind, c.text) for c in await office.open_commands()] == [("steer", "use the mirror")]
    assert len(await office.notices()) == 1


async def test_two_replies_are_kept_in_order(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("first", addressed=False)
    await office.hear("second", addressed=False)
    assert [c.text for c in await office.open_commands()] == ["first", "second"]


async def test_an_empty_reply_steers_nothing(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("")
    assert await office.open_commands() == []


async def test_retry_while_it_runs_is_no_steer(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING)
    await office.hear("retry")
    assert await office.open_commands() == []
    [said] = await office.notices()
    assert "working" in said


async def test_who_may_not_steer_is_refused(office: Office) -> None:
    await office.hear("acme/api fix it")
    await office.hear("do it differently", addressed=False, author="fake:lee")
    assert await office.open_commands() == []
    [said] = await office.notices()
    assert said.startswith("Refused:")


async def test_a_reply_while_it_stops_is_told_to_wait(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.STOPPING)
    await office.hear("also the docs", addressed=False)
    assert await office.open_commands() == []
    [said] = await office.notices()
    assert "again" in said


async def test_stop_before_the_launch_ends_at_once_with_one_last_word(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("stop")
    assert (await office.task()).state is TaskState.STOPPED
    [word] = await office.finals()
    assert word.outcome == "stopped"
    assert await office.marks() == {Mark.STOPPED}
    [card] = await office.cards()
    assert not card.live


@pytest.mark.parametrize("state", [TaskState.STARTING, TaskState.RUNNING])
async def test_stop_of_a_run_becomes_a_command(office: Office, state: TaskState) -> None:
    await office.hear(ASK)
    await office.put(state)
    await office.hear("stop")
    assert (await office.task()).state is TaskState.STOPPING
    assert [c.kind for c in await office.open_commands()] == ["stop"]
    assert await office.finals() == []


async def test_a_second_stop_is_passed_on_too(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING)
    await office.hear("stop")
    await office.hear("stop", author="fake:lee")
    assert [(c.kind, c.author) for c in await office.open_commands()] == [
        ("stop", "fake:dana"),
        ("stop", "fake:lee"),
    ]
    assert await office.notices() == []


async def test_two_clicks_of_one_finger_are_one_stop(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING)
    for _ in range(2):
        click = office.inbound("stop").model_copy(update={"pressed": True})
        await office.intake.receive(click)
    await office.desk.work_off()
    assert len(await office.open_commands()) == 1
    assert await office.notices() == []


async def test_stop_while_work_is_kept_says_so(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.KEEPING)
    await office.hear("stop")
    assert (await office.task()).state is TaskState.KEEPING
    [said] = await office.notices()
    assert "put on its branch" in said


async def test_after_a_stop_the_next_round_is_told_what_was_stopped(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.STOPPED)
    first = await office.task()
    await office.hear("use the mirror instead", addressed=False)
    second = await office.task()
    assert second.prompt == "use the mirror instead"
    assert first.prompt in second.context


async def test_stop_comes_too_late_for_what_is_being_published(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.PUBLISHING)
    await office.hear("stop")
    assert (await office.task()).state is TaskState.PUBLISHING
    [said] = await office.notices()
    assert "Too late" in said


async def test_stop_after_the_end_says_that_nothing_runs(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("stop")
    await office.hear("stop")
    assert await office.notices() == ["Nothing is running here."]
    assert len(await office.finals()) == 1


async def test_who_may_not_stop_is_refused(office: Office) -> None:
    await office.hear("acme/api fix it")
    await office.hear("stop", author="fake:lee")
    assert (await office.task()).state is TaskState.QUEUED
    [said] = await office.notices()
    assert said.startswith("Refused:")


async def test_a_reply_after_the_end_is_a_new_round_on_the_same_branch(office: Office) -> None:
    await office.hear(ASK)
    first = await office.put(TaskState.SUCCEEDED, pull_url="http://forge.example/1")
    await office.hear("also the docs", addressed=False)
    second = await office.task()
    assert (second.id, second.branch, second.pull_url) == (first.id, first.branch, first.pull_url)
    assert (second.state, second.round, second.attempts) == (TaskState.QUEUED, 2, 0)
    assert (second.prompt, second.message_id) == ("also the docs", "2.0")
    assert await office.marks("2.0") == {Mark.SEEN}


async def test_a_new_round_has_its_own_card_and_last_word(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("stop")
    await office.hear("go on after all")
    await office.hear("stop")
    assert len(await office.cards()) == 2
    assert len(await office.finals()) == 2


async def test_a_new_round_belongs_to_who_asked_for_it(office: Office) -> None:
    await office.hear(ASK)
    await office.hear("stop")
    await office.hear("go on after all", author="fake:lee")
    task = await office.task()
    assert (task.requester, task.requester_name) == ("fake:lee", "lee")


async def test_retry_runs_the_last_instruction_again(office: Office) -> None:
    await office.hear(ASK)
    before = await office.put(TaskState.FAILED)
    await office.hear("retry")
    task = await office.task()
    assert (task.state, task.round, task.prompt) == (TaskState.QUEUED, 2, before.prompt)


async def test_retry_can_name_another_agent(office: Office) -> None:
    await office.hear(ASK)
    before = await office.put(TaskState.FAILED)
    await office.hear("retry agent=script")
    task = await office.task()
    assert (task.prompt, task.grant["agent"]) == (before.prompt, "script")


async def test_an_empty_reply_after_the_end_starts_nothing(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.FAILED)
    await office.hear("")
    assert (await office.task()).state is TaskState.FAILED


async def test_who_may_not_start_is_refused_a_new_round(office: Office) -> None:
    await office.hear("acme/api fix it")
    await office.put(TaskState.FAILED)
    await office.hear("retry", author="fake:lee")
    assert (await office.task()).state is TaskState.FAILED
    assert len(await office.notices()) == 1


async def test_a_word_of_the_request_says_which_repository(office: Office) -> None:
    office.policy = worded()
    await office.hear("the checkout fails")
    task = await office.task()
    assert (task.repo, task.repo_reason) == ("acme/web", "for the word `checkout`")


async def test_repositories_of_the_words_come_first_among_the_choices(office: Office) -> None:
    office.policy = worded()
    await office.hear("acme/aside add a page")  # used last, which else comes first
    await office.hear("the checkout and its invoice", thread="2.0")
    [question] = await office.questions()
    assert [o.label for o in question.options] == ["acme/api", "acme/web", "acme/aside"]


def worded() -> Policy:
    data = POLICY.model_dump(mode="json")
    data["repos"]["acme/web"]["keywords"] = ["checkout"]
    data["repos"]["acme/api"]["keywords"] = ["invoice"]
    data["repos"]["acme/aside"] = {"forge": "local"}
    return Policy.model_validate(data)
