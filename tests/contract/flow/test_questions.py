"""An agent asks people: the errand waits, one answer reaches the run, and nothing is left open."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bot.front import HouseFront
from bot.states import TaskState
from bot.store import followers
from integrations.channel import Conversation, Notice, Question
from runner.protocol import Answer, CommandSeen, Finished, QuestionClosed, RunKey, Said
from runner.protocol import Question as Asked
from tests.contract.flow.office import HERE, Office
from tests.contract.flow.yard import Yard, done

pytestmark = pytest.mark.redis

ASKED = Asked(id="7.0.0", text="Which database?\nBoth would do.", options=("Postgres", "SQLite"))
CLOSED = QuestionClosed(id="7.0.0", answered=True)


@pytest.fixture
async def waiting(yard: Yard) -> Yard:
    await yard.tell(await yard.running(), ASKED)
    await yard.office.send()
    return yard


async def question(office: Office) -> Question:
    [found] = await office.questions()
    return found


async def the_run(office: Office) -> RunKey:
    task = await office.task()
    return RunKey(task=task.id, fence=task.fence)


async def answers(yard: Yard) -> list[Answer]:
    """What the run is told."""
    await yard.dispatcher.send_commands()
    return [c.answer for c in await yard.host.commands() if c.answer is not None]


async def press(office: Office, words: str, *, author: str = "fake:dana", **changes: Any) -> None:
    """Press what the newest question shows."""
    await office.send()
    [*_, shown] = [p for p in office.channel.posted if isinstance(p.reply, Question)]
    inbound = office.inbound(words, author=author)
    pressed = {"pressed": True, "message_id": shown.message_id, **changes}
    await office.intake.receive(inbound.model_copy(update=pressed))
    await office.desk.work_off()


async def test_a_question_is_put_to_people_and_the_errand_waits(waiting: Yard) -> None:
    asked = await question(waiting.office)
    assert asked.text == ASKED.text
    assert [(o.label, o.words) for o in asked.options] == [
        ("Postgres", "Postgres"),
        ("SQLite", "SQLite"),
    ]
    assert (await waiting.office.task()).state is TaskState.WAITING
    [card] = await waiting.office.cards()
    assert (card.state, card.waits, card.doing) == (
        "waiting for you",
        True,
        "asks: Which database?",
    )


async def hear(office: Office, words: str) -> None:
    await office.hear(words.lower())


@pytest.mark.parametrize("give", [press, hear])
async def test_the_answer_goes_to_the_run_until_it_was_seen(
    waiting: Yard, give: Callable[[Office, str], Awaitable[None]]
) -> None:
    office = waiting.office
    await give(office, "SQLite")
    assert (await question(office)).chosen == "dana answered: SQLite"
    assert [(a.question.id, a.text) for a in await answers(waiting)] == [("7.0.0", "SQLite")]
    run = await the_run(office)
    await waiting.tell(run, CLOSED, CommandSeen(command=(await office.open_commands())[0].id))
    assert (await office.task()).state is TaskState.RUNNING
    assert await office.open_commands() == []
    assert (await question(office)).chosen == "dana answered: SQLite"
    [entry] = await office.record("answer")
    assert (entry.actor, entry.detail["question"]) == ("fake:dana", "7.0.0")


async def test_other_words_are_an_answer_too(waiting: Yard) -> None:
    await waiting.office.hear("neither, use a file")
    [answer] = await answers(waiting)
    assert answer.text == "neither, use a file"
    assert "Noted; the agent goes on with that." in await waiting.office.notices()


async def test_a_second_click_changes_nothing(waiting: Yard) -> None:
    office = waiting.office
    await press(office, "SQLite")
    await press(office, "Postgres", author="fake:lee")
    assert [a.text for a in await answers(waiting)] == ["SQLite"]
    assert (await question(office)).chosen == "dana answered: SQLite"
    assert await office.notices() == []


async def test_a_button_answers_its_own_question_only(waiting: Yard) -> None:
    office = waiting.office
    [first] = [p for p in office.channel.posted if isinstance(p.reply, Question)]
    await press(office, "SQLite")
    again = ASKED.model_copy(update={"id": "8.0.0"})
    [command] = await office.open_commands()
    await waiting.tell(await the_run(office), CLOSED, CommandSeen(command=command.id), again)
    await office.send()
    await press(office, "Postgres", message_id=first.message_id)
    assert await office.open_commands() == []
    await press(office, "Postgres")
    assert len(await office.open_commands()) == 1


async def test_who_may_not_steer_may_not_answer(waiting: Yard) -> None:
    await press(waiting.office, "SQLite", author="fake:sam", standing="guest")
    assert await answers(waiting) == []
    assert (await question(waiting.office)).chosen == ""
    assert (await waiting.office.notices())[-1].startswith("Refused")


@pytest.mark.parametrize("words", ["status", "help", "thanks", "block example.com"])
async def test_what_means_something_to_us_is_no_answer(waiting: Yard, words: str) -> None:
    await waiting.office.hear(words)
    assert await answers(waiting) == []


async def test_an_option_that_is_a_word_of_ours_is_told_apart(yard: Yard) -> None:
    asked = Asked(id="7.0.0", text="Go on?", options=("OK", "Stop"))
    await yard.tell(await yard.running(), asked)
    assert [o.words for o in (await question(yard.office)).options] == ["OK", "answer: Stop"]
    await press(yard.office, "answer: Stop")
    assert [a.text for a in await answers(yard)] == ["Stop"]
    assert (await yard.office.task()).state is TaskState.WAITING


async def test_stop_stops_what_waits(waiting: Yard) -> None:
    office = waiting.office
    await office.hear("stop")
    assert (await office.task()).state is TaskState.STOPPING
    run = await the_run(office)
    await waiting.tell(run, QuestionClosed(id="7.0.0", answered=False))
    await waiting.tell(run, Finished(outcome="stopped"))
    assert (await office.task()).state is TaskState.STOPPED
    assert (await question(office)).chosen == "not answered"


async def test_a_question_that_the_turn_outlived_is_settled(waiting: Yard) -> None:
    run = await the_run(waiting.office)
    await waiting.tell(run, QuestionClosed(id="7.0.0", answered=False))
    assert (await waiting.office.task()).state is TaskState.RUNNING
    assert (await question(waiting.office)).chosen == "not answered"


@pytest.mark.parametrize("outcome", ["expired", "failed"])
async def test_a_run_that_ends_while_it_waits_leaves_nothing_open(
    waiting: Yard, outcome: str
) -> None:
    run = await the_run(waiting.office)
    await waiting.tell(run, Finished.model_validate({"outcome": outcome, "reason": "So it is."}))
    assert (await question(waiting.office)).chosen == "not answered"
    assert (await waiting.office.task()).state == outcome


async def test_a_lost_host_leaves_nothing_open_and_the_next_run_hears_the_answer(
    waiting: Yard,
) -> None:
    office = waiting.office
    await office.hear("SQLite")
    run = await the_run(office)
    await waiting.lose(run)
    assert (await question(office)).chosen == "dana answered: SQLite"
    again = await waiting.again()
    assert [a.text for a in await answers(waiting)] == ["SQLite"]
    assert (await waiting.host.commands())[-1].run == again


async def test_what_a_lost_run_asked_is_settled_and_may_be_asked_again(waiting: Yard) -> None:
    await waiting.lose(await the_run(waiting.office))
    assert (await question(waiting.office)).chosen == "not answered"
    await waiting.tell(await waiting.again(), ASKED)
    chosen = [asked.chosen for asked in await waiting.office.questions()]
    assert chosen == ["not answered", ""]
    assert (await waiting.office.task()).state is TaskState.WAITING


async def test_an_answer_that_no_run_saw_is_word_for_the_next_round(waiting: Yard) -> None:
    office = waiting.office
    await office.hear("SQLite")
    run = await the_run(office)
    await waiting.tell(run, QuestionClosed(id="7.0.0", answered=False), done(changed=False))
    task = await office.task()
    assert (task.state, task.round) == (TaskState.QUEUED, 2)
    assert task.prompt == f"You asked: {ASKED.text}\nThe answer is: SQLite"


async def test_what_was_answered_stays_with_the_errand(waiting: Yard) -> None:
    office = waiting.office
    await office.hear("SQLite")
    run = await the_run(office)
    [command] = await office.open_commands()
    await waiting.tell(run, CLOSED, CommandSeen(command=command.id), Said(text="Then SQLite."))
    assert "The answer is: SQLite" in (await office.task()).prompt


async def test_a_question_of_a_run_that_is_being_stopped_is_not_put(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.tell(run, ASKED)
    assert await yard.office.questions() == []


async def test_where_it_is_shown_besides_the_answer_is_said(yard: Yard) -> None:
    office = yard.office
    run = await yard.running()
    there = Conversation(channel="other", place="ENG", thread="ENG-1")
    async with office.store.begin() as tx:
        await followers.add(tx, run.task, there, now=office.clock.now())
    await yard.tell(run, ASKED)
    await press(office, "SQLite")
    await office.send()
    assert len([r for r in office.elsewhere.replies(there) if isinstance(r, Question)]) == 1
    assert office.elsewhere.replies(there)[-1] == Notice(text="dana answered: SQLite")
    assert office.channel.replies(HERE)


async def test_in_a_muted_thread_people_talk_among_themselves(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("mute")
    await yard.tell(run, ASKED)
    await yard.office.hear("lunch?", addressed=False)
    assert await answers(yard) == []
    await yard.office.hear("SQLite", addressed=True)
    assert len(await answers(yard)) == 1


async def test_app_home_says_what_is_asked(waiting: Yard) -> None:
    front = HouseFront(store=waiting.office.store, in_force=waiting.applier.in_force)
    [shown] = await front.questions("fake:dana")
    assert shown.text == "fix it: asks: Which database?"
