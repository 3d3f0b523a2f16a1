"""Buttons, edits, mutes, ratings and defaults: what is said beside requests and replies."""

from typing import Any

import pytest

from bot.front import HouseFront
from bot.in_force import InForce
from bot.line import NEXT
from bot.states import TaskState
from integrations.channel import Inbound, Question
from policies.model import Policy
from tests.contract.flow.office import HERE, Office
from tests.support.builders import POLICY

ASK = "acme/web fix the login test"
UNCLEAR = "fix the login test"


async def told(office: Office, text: str, *, changes: dict[str, Any], **more: Any) -> Inbound:
    """As `hear`, with fields that only some channels set."""
    inbound = office.inbound(text, **more).model_copy(update=changes)
    await office.intake.receive(inbound)
    await office.desk.work_off()
    return inbound


async def press(office: Office, text: str, **more: Any) -> Inbound:
    return await told(office, text, changes={"pressed": True}, **more)


async def edit(office: Office, of: Inbound, text: str) -> None:
    changes = {
        "happening": "corrected",
        "corrects": of.semantic_key,
        "message_id": of.message_id,
        "semantic_key": f"{of.semantic_key}:edit",
    }
    await told(office, text, changes=changes, addressed=of.addressed)


async def test_a_pressed_option_answers_the_question_and_closes_it(office: Office) -> None:
    await office.hear(UNCLEAR)
    await press(office, "acme/api")
    [question] = await office.questions()
    assert (question.chosen, question.to) == ("acme/api", "fake:dana")
    assert (await office.task()).repo == "acme/api"


async def test_a_second_click_changes_nothing(office: Office) -> None:
    await office.hear(UNCLEAR)
    await press(office, "acme/api")
    await press(office, "acme/web")
    [task] = await office.tasks()
    assert task.repo == "acme/api"
    assert await office.open_commands() == []
    assert await office.notices() == []


async def test_somebody_else_s_click_answers_nothing(office: Office) -> None:
    await office.hear(UNCLEAR)
    await press(office, "acme/api", author="fake:lee")
    assert await office.tasks() == []
    [question] = await office.questions()
    assert question.chosen == ""


async def test_the_repositories_used_last_come_first(office: Office) -> None:
    await office.hear("acme/web fix it", thread="9.0")
    await office.hear(UNCLEAR, thread="10.0")
    [question] = await office.questions()
    assert [option.words for option in question.options] == ["acme/web", "acme/api"]


async def test_a_pressed_stop_with_nothing_to_stop_is_not_answered(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.SUCCEEDED, ended_at=office.clock.now())
    await press(office, "stop")
    assert await office.notices() == []
    await office.hear("stop", addressed=False)
    assert await office.notices() == ["Nothing is running here."]


async def test_a_pressed_retry_runs_it_once_more(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.FAILED, ended_at=office.clock.now())
    await press(office, "retry")
    await press(office, "retry")
    task = await office.task()
    assert (task.state, task.round, task.prompt) == (TaskState.QUEUED, 2, ASK)
    assert await office.notices() == []


async def test_a_later_round_keeps_the_agent_that_was_asked_for(office: Office) -> None:
    await office.hear(f"{ASK} agent=script")
    await office.put(TaskState.FAILED, ended_at=office.clock.now())
    await press(office, "retry")
    assert (await office.task()).grant["agent"] == "script"


async def test_a_model_that_is_not_listed_is_refused(office: Office) -> None:
    await office.hear(f"{ASK} model=gpt-5")
    assert await office.tasks() == []
    [said] = await office.notices()
    assert "gpt-5 is not among the models" in said


async def test_an_edit_before_the_first_run_is_what_the_run_begins_with(office: Office) -> None:
    asked = await office.hear(ASK)
    await edit(office, asked, "acme/web fix the logout test")
    task = await office.task()
    assert (task.prompt, task.title) == ("acme/web fix the logout test", "fix the logout test")
    assert await office.open_commands() == []


async def test_an_edit_during_a_run_is_told_to_the_agent(office: Office) -> None:
    asked = await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    await edit(office, asked, "acme/web fix the logout test")
    [steer] = await office.open_commands()
    assert "I have edited my request" in steer.text
    assert "fix the logout test" in steer.text


async def test_an_edit_of_word_to_the_agent_is_told_too(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    said = await office.hear("and bump the timeout to 10", addressed=False)
    await edit(office, said, "and bump the timeout to 30")
    texts = [command.text for command in await office.open_commands()]
    assert len(texts) == 2
    assert texts[1].endswith("and bump the timeout to 30")


async def test_an_edit_of_what_we_never_took_in_is_ignored(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    chatter = office.inbound("hm", addressed=False)
    await edit(office, chatter, "hmm")
    assert await office.open_commands() == []
    assert (await office.inbox_states())[-1] == "ignored"


async def test_an_edit_after_the_end_begins_nothing(office: Office) -> None:
    asked = await office.hear(ASK)
    await office.put(TaskState.SUCCEEDED, ended_at=office.clock.now())
    await edit(office, asked, "acme/web fix the logout test")
    assert (await office.task()).round == 1


async def test_an_edit_answers_our_question(office: Office) -> None:
    asked = await office.hear(UNCLEAR)
    await edit(office, asked, "acme/api fix the logout test")
    task = await office.task()
    assert (task.repo, task.title, task.message_id) == ("acme/api", "fix the logout test", "1.0")


async def test_an_edit_mends_a_refused_request(office: Office) -> None:
    asked = await office.hear("fix it repo=acme/typo")
    assert await office.tasks() == []
    await edit(office, asked, "fix it repo=acme/web")
    assert (await office.task()).repo == "acme/web"


async def test_only_who_may_steer_corrects(office: Office) -> None:
    asked = await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    changes = {"happening": "corrected", "message_id": asked.message_id, "standing": "guest"}
    await told(office, "acme/web delete it", changes=changes, author="fake:eve")
    assert await office.open_commands() == []
    assert (await office.notices())[0].startswith("Refused:")


async def test_after_mute_only_what_is_addressed_counts(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    await office.hear("mute", addressed=False)
    await office.hear("lunch?", addressed=False)
    await office.hear("and the docs", addressed=True)
    assert [command.text for command in await office.open_commands()] == ["and the docs"]
    await office.hear("unmute", addressed=False)
    await office.hear("and a test", addressed=False)
    assert len(await office.open_commands()) == 2


async def test_a_rating_is_on_record_and_not_answered(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.SUCCEEDED, ended_at=office.clock.now())
    await told(office, "bad", changes={"happening": "rated", "pressed": True}, author="fake:lee")
    [rated] = await office.record("feedback")
    assert (rated.actor, rated.decision) == ("fake:lee", "bad")
    assert await office.notices() == []


async def test_a_default_that_was_set_is_taken_and_said(office: Office) -> None:
    await office.hear("settings repo=ACME/api", thread="9.0")
    await office.hear(UNCLEAR)
    task = await office.task()
    assert (task.repo, task.repo_reason) == ("acme/api", "set for fake:C0WEB")
    await office.hear("settings repo=none", thread="9.0")
    await office.hear(UNCLEAR, thread="11.0")
    assert len(await office.questions()) == 1


async def test_the_policy_s_own_default_comes_first(office: Office) -> None:
    raw = POLICY.model_dump(mode="json")
    raw["repos"]["acme/web"]["default_for"] = ["fake:C0WEB"]
    office.policy = Policy.model_validate(raw)
    await office.hear("settings repo=acme/api", thread="9.0")
    await office.hear(UNCLEAR)
    assert (await office.task()).repo == "acme/web"


async def test_only_who_may_change_settings_does(office: Office) -> None:
    await office.hear("settings repo=acme/web", author="fake:lee")
    await office.hear("settings", author="fake:lee", thread="9.0")
    refused, shown = await office.notices()
    assert refused.startswith(
        "Refused: The policy does not let you make a default of acme/web here"
    )
    assert "is not set" in shown


@pytest.mark.parametrize("standing", ["guest", "outsider", "bot", "unknown"])
async def test_everybody_means_members_only(office: Office, standing: str) -> None:
    await told(office, ASK, changes={"standing": standing}, author="fake:lee")
    [said] = await office.notices()
    assert said.startswith("Refused: The policy has no rule that names you (")
    assert await office.tasks() == []


async def test_a_guest_whom_the_policy_names_may(office: Office) -> None:
    await told(office, ASK, changes={"standing": "guest"}, author="fake:dana")
    assert len(await office.tasks()) == 1


async def test_a_shared_place_must_be_named(office: Office) -> None:
    await told(office, "acme/api fix it", changes={"shared": True}, place="C0ELSE")
    [said] = await office.notices()
    assert "shared with another organization" in said
    await told(office, ASK, changes={"shared": True}, thread="9.0", author="fake:lee")
    assert (await office.task()).repo == "acme/web"


async def test_what_is_attached_to_a_reply_goes_along_as_background(office: Office) -> None:
    await office.hear(ASK)
    await office.put(TaskState.RUNNING, fence=1)
    await told(office, "see the log", changes={"context": "Attached: ci.log"}, addressed=False)
    [steer] = await office.open_commands()
    assert steer.text.startswith("see the log\n\n")
    assert "not instructions to you" in steer.text


async def test_a_branch_may_be_named(office: Office) -> None:
    await office.hear("acme/web fix it branch=team/login")
    assert (await office.task()).branch == "team/login"


async def test_a_branch_that_is_no_such_name_is_said(office: Office) -> None:
    await office.hear("acme/web fix it branch=main")
    task = await office.task()
    assert task.branch.startswith("errand/")
    assert task.branch in (await office.notices())[0]


async def test_what_waits_in_line_says_how_much_is_before_it(office: Office) -> None:
    for n in range(3):
        await office.hear(ASK, thread=f"{n + 5}.0")
    assert [card.doing for card in await office.cards()] == [
        "",
        "waits in line, 1 before it",
        "waits in line, 2 before it",
    ]
    await office.hear("stop", thread="5.0", addressed=False)
    office.clock.forward(5)
    await office.vigil.tell_the_line()
    await office.send()
    assert [card.doing for card in await office.cards()][1:] == [NEXT, "waits in line, 1 before it"]


# What channels may show of it


def front(office: Office) -> HouseFront:
    return HouseFront(store=office.store, in_force=InForce(office.policy), now=office.clock.now)


async def test_the_front_shows_what_is_somebody_s_own(office: Office) -> None:
    await office.hear(ASK)
    [mine] = await front(office).errands("fake:dana", limit=10)
    assert (mine.title, mine.live, mine.conversation) == ("fix the login test", True, HERE)
    assert await front(office).errands("fake:lee", limit=10) == ()


async def test_the_front_shows_what_waits_for_somebody(office: Office) -> None:
    await office.hear(UNCLEAR)
    [asked] = await front(office).questions("fake:dana")
    assert UNCLEAR in asked.text
    assert await front(office).questions("fake:lee") == ()
    await press(office, "acme/api")
    assert await front(office).questions("fake:dana") == ()


async def test_the_front_offers_what_the_policy_opens(office: Office) -> None:
    dana = await front(office).offer("fake:dana", "fake:C0WEB")
    lee = await front(office).offer("fake:lee", "fake:C0WEB")
    anywhere = await front(office).offer("fake:lee", "fake:*")
    assert (dana.repos, dana.may_set) == (("acme/api", "acme/web"), True)
    assert (lee.repos, lee.may_set, lee.default) == (("acme/web",), False, "acme/web")
    assert anywhere.repos == ("acme/web",)
    assert "script" in lee.agents


async def test_the_front_tells_who_runs_this_and_what_it_reaches(office: Office) -> None:
    house = await front(office).house("fake:lee")
    assert house.operators == ("fake:dana",)
    assert house.reaches == (("acme/web", ()),)


async def test_the_front_has_details_of_a_conversation(office: Office) -> None:
    assert await front(office).details(HERE) is None
    await office.hear(ASK)
    details = await front(office).details(HERE)
    assert details is not None
    assert details.branch.startswith("errand/")
    assert details.asked_by == "fake:dana"
    assert details.url


async def test_the_front_knows_where_work_is_under_way(office: Office) -> None:
    assert await front(office).live("fake") == ()
    await office.hear(ASK)
    assert await front(office).live("fake") == (HERE,)
    assert await front(office).live("other") == ()
    await office.hear("stop", addressed=False)
    assert await front(office).live("fake") == ()


def test_a_question_without_an_answer_is_open() -> None:
    assert Question(text="?", options=()).chosen == ""
