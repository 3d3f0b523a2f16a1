"""Clicks, forms, shortcuts and commands, as Slack sends them, over both transports."""

from typing import Any

import pytest

from integrations.channel import Card, Conversation, Final, Option, Question, Reply
from integrations.front import Details, Errand, Offer
from tests.contract.slack.conftest import Site
from tests.support.slack_api import Fault
from tests.support.slack_payloads import command, payload

HERE = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread="1732104000.000100")
ERRAND = Errand(
    conversation=HERE, title="Fix it", repo="acme/web", state="working", live=True,
    link="https://acme.example/archives/C0WEB/p1732104000000100", seconds=130, cost_usd=0.31,
)  # fmt: skip
OFFER = Offer(repos=("acme/web", "acme/api"), agents=("claude-code", "script"), default="acme/web")


def click(
    action_id: str, value: str, *, at: str = "1732104210.000000", **more: Any
) -> dict[str, Any]:
    raw = payload("block_actions")
    raw["actions"] = [
        {"action_id": action_id, "block_id": "b", "type": "button", "value": value, "action_ts": at}
        | more
    ]
    return raw


def fields_of(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {b["block_id"]: b["element"] for b in view["blocks"] if b["type"] == "input"}


async def test_a_pressed_option_says_its_words_in_the_thread(site: Site) -> None:
    answer = await site.line.interaction(click("say_once.0", "acme/web"))

    assert answer.ok
    [said] = site.stored
    assert (said.text, said.author, said.addressed, said.pressed) == (
        "acme/web",
        "slack:U0DANA",
        True,
        True,
    )
    assert said.conversation == HERE
    assert said.message_id == "1732104200.001200"


async def test_a_double_click_on_an_option_is_one_utterance(site: Site) -> None:
    await site.line.interaction(click("say_once.0", "acme/web"))
    await site.line.interaction(click("say_once.0", "acme/web", at="1732104211.000000"))
    await site.line.interaction(click("say_once.1", "acme/api", at="1732104212.000000"))

    first, second, other = (inbound.semantic_key for inbound in site.stored)
    assert first == second != other


async def test_each_press_of_stop_counts(site: Site) -> None:
    await site.line.interaction(click("say.stop", "stop"))
    await site.line.interaction(click("say.stop", "stop", at="1732104211.000000"))

    assert [inbound.text for inbound in site.stored] == ["stop", "stop"]
    assert len({inbound.semantic_key for inbound in site.stored}) == 2


async def test_what_was_chosen_from_a_list_is_said(site: Site) -> None:
    option = {"text": {"type": "plain_text", "text": "acme/api"}, "value": "acme/api"}
    chosen = click("choose", "", type="static_select", selected_option=option)
    del chosen["actions"][0]["value"]
    await site.line.interaction(chosen)

    assert [inbound.text for inbound in site.stored] == ["acme/api"]


@pytest.mark.parametrize("name", ["rate", "rate.good"])
async def test_feedback_is_a_rating_and_no_request(site: Site, name: str) -> None:
    await site.line.interaction(click(name, "good"))

    [rated] = site.stored
    assert (rated.happening, rated.text) == ("rated", "good")


async def test_a_click_that_cannot_be_stored_is_not_acknowledged(site: Site) -> None:
    site.failures = 1
    assert not (await site.line.interaction(click("say_once.0", "acme/web"))).ok
    assert (await site.line.interaction(click("say_once.0", "acme/web"))).ok


async def test_details_are_shown_at_once(site: Site) -> None:
    site.front.shown[HERE] = Details(
        errand=ERRAND, asked_by="slack:U0DANA1234", branch="errand/1-fix-it", denied=("evil.example",),
        said="<!channel> " * 900, allowed=("registry.acme.com",), tokens=1234, url="http://127.0.0.1/tasks/1",
    )  # fmt: skip
    answer = await site.line.interaction(click("details", "details"))

    assert answer.ok
    [view] = site.api.views
    shown = str(view)
    for fact in ("Fix it", "evil.example", "registry.acme.com", "1,234 tokens", "<@U0DANA1234>"):
        assert fact in shown
    assert "<!channel>" not in shown
    assert site.stored == []


async def test_details_of_nothing_say_so(site: Site) -> None:
    await site.line.interaction(click("details", "details"))
    assert "no errand" in str(site.api.views)


async def test_the_message_shortcut_opens_a_form_with_the_message_in_it(site: Site) -> None:
    site.front.general = OFFER
    answer = await site.line.interaction(payload("message_action"))

    assert answer.ok
    assert answer.seconds < 3
    [view] = site.api.views
    fields = fields_of(view)
    assert (
        fields["request"]["initial_value"]
        == "the https://ci.example/1 fails on `main` & it blocks us"
    )
    assert fields["repo"]["initial_option"]["value"] == "acme/web"
    assert set(fields) == {"request", "repo", "agent"}


async def test_the_global_shortcut_asks_for_the_place_too(site: Site) -> None:
    site.front.general = OFFER
    await site.line.interaction(payload("shortcut"))

    [view] = site.api.views
    assert fields_of(view)["place"]["type"] == "conversations_select"


async def test_many_repositories_are_searched_for(site: Site) -> None:
    site.front.general = Offer(repos=tuple(f"acme/web{n}" for n in range(250)))
    await site.line.interaction(payload("shortcut"))
    answer = await site.line.interaction(payload("block_suggestion"))

    assert fields_of(site.api.views[0])["repo"]["type"] == "external_select"
    assert len(answer.body["options"]) == 100
    assert answer.body["options"][0]["value"] == "acme/web0"


async def test_a_form_becomes_a_request_in_its_thread(site: Site) -> None:
    answer = await site.line.interaction(payload("view_submission"))

    assert (answer.ok, answer.body) == (True, {})
    [asked] = site.stored
    assert asked.text == "repo=acme/web\nmend the build\nand say why"
    assert asked.conversation == HERE
    assert asked.message_id == "1732104060.000200"


async def test_the_same_form_twice_is_one_request(site: Site) -> None:
    for _ in range(2):
        await site.line.interaction(payload("view_submission"))
    assert len({inbound.semantic_key for inbound in site.stored}) == 1


async def test_an_empty_form_is_given_back(site: Site) -> None:
    raw = payload("view_submission")
    raw["view"]["state"]["values"]["request"]["request"]["value"] = None
    answer = await site.line.interaction(raw)

    assert answer.body["response_action"] == "errors"
    assert set(answer.body["errors"]) == {"request"}
    assert site.stored == []


async def test_a_form_that_cannot_be_stored_stays_open(site: Site) -> None:
    site.failures = 1
    assert not (await site.line.interaction(payload("view_submission"))).ok


async def test_a_command_is_stored_and_a_message_is_posted_for_it(site: Site) -> None:
    answer = await site.line.command(command("acme/web fix &lt;it&gt;\nand test it"))

    assert (answer.ok, answer.body) == (True, {})
    [asked] = site.stored
    assert asked.text == "acme/web fix <it>\nand test it"
    first = await site.completed(asked)
    again = await site.completed(asked)

    [posted] = site.api.messages["C0WEB"]
    assert first.conversation.thread == again.conversation.thread == posted["ts"]
    assert "fix &lt;it&gt;" in str(posted["text"])
    assert first.link


@pytest.mark.parametrize("code", ["not_in_channel", "no_permission", "access_denied"])
async def test_where_the_bot_cannot_speak_it_answers_directly(site: Site, code: str) -> None:
    site.api.closed["C0WEB"] = code
    await site.line.command(command("acme/web fix it"))
    asked = await site.completed(site.stored[0])

    assert asked.conversation.place == "D0DANA"
    assert len(site.api.messages["D0DANA"]) == 1


async def test_a_command_that_cannot_be_stored_is_not_acknowledged(site: Site) -> None:
    site.failures = 1
    assert not (await site.line.command(command("acme/web fix it"))).ok


@pytest.mark.parametrize("text", ["", "help", "list", "status", "Status."])
async def test_words_about_oneself_are_answered_to_oneself(site: Site, text: str) -> None:
    site.front.tasks = (ERRAND, ERRAND.model_copy(update={"live": False, "title": "Older"}))
    answer = await site.line.command(command(text))

    assert answer.body["response_type"] == "ephemeral"
    assert answer.body["text"]
    assert ("Older" in str(answer.body)) == (text == "list")
    assert site.stored == []


@pytest.mark.parametrize("text", ["stop", "retry"])
async def test_stop_and_retry_are_said_in_the_thread_of_the_errand(site: Site, text: str) -> None:
    site.front.tasks = (ERRAND.model_copy(update={"live": text == "stop"}),)
    await site.line.command(command(text))

    [said] = site.stored
    assert (said.text, said.conversation) == (text, HERE)


async def test_of_several_errands_one_is_chosen_to_be_stopped(site: Site) -> None:
    other = HERE.model_copy(update={"thread": "1732104999.000100"})
    site.front.tasks = (ERRAND, ERRAND.model_copy(update={"conversation": other}))
    answer = await site.line.command(command("stop"))
    assert site.stored == []
    buttons = [e for b in answer.body["blocks"] if b["type"] == "actions" for e in b["elements"]]
    stop = next(b for b in buttons if b["action_id"] == "stop_there" and other.thread in b["value"])

    await site.line.interaction(click("stop_there", stop["value"]))

    assert [(i.text, i.conversation) for i in site.stored] == [("stop", other)]


async def test_settings_open_a_form_for_those_who_may(site: Site) -> None:
    refused = await site.line.command(command("settings"))
    assert "policy" in refused.body["text"]
    site.front.general = OFFER.model_copy(update={"may_set": True})
    await site.line.command(command("settings"))
    [view] = site.api.views
    raw = payload("view_submission")
    raw["view"] |= {"callback_id": "settings", "private_metadata": view["private_metadata"]}
    await site.line.interaction(raw)

    [said] = site.stored
    assert (said.text, said.conversation.where) == ("settings repo=acme/web", "slack:C0WEB")


async def test_slack_away_is_said_and_not_hidden(site: Site) -> None:
    site.front.general = OFFER.model_copy(update={"may_set": True})
    site.api.fail("views.open", Fault(status=503))
    answer = await site.line.command(command("settings"))
    assert "did not let me" in answer.body["text"]


async def test_app_home_shows_what_is_mine(site: Site) -> None:
    site.front.tasks = (ERRAND,)
    answer = await site.line.event(payload("app_home_opened"))

    assert answer.ok
    assert "Fix it" in str(site.api.homes["U0DANA"])


async def test_the_agents_pane_suggests_what_to_say(site: Site) -> None:
    site.front.general = OFFER
    await site.line.event(payload("app_home_messages"))

    prompts = site.api.prompts["D0DANA"]
    assert "acme/web" in str(prompts)
    assert "thread_ts" not in prompts


async def test_home_is_acknowledged_even_if_slack_is_away(site: Site) -> None:
    site.api.fail("views.publish", Fault(status=503))
    assert (await site.line.event(payload("app_home_opened"))).ok


async def test_what_somebody_looks_at_says_what_a_direct_message_means(site: Site) -> None:
    await site.line.event(payload("app_context_changed"))
    await site.line.event(payload("message_im"))

    [said] = site.stored
    assert said.topics == ("slack:C0WEB",)


async def test_the_pane_s_own_stop_is_a_stop(site: Site) -> None:
    await site.line.event(payload("agent_session_stopped"))

    [said] = site.stored
    assert (said.text, said.conversation.place) == ("stop", "D0DANA")


@pytest.mark.parametrize("name", ["app_uninstalled", "tokens_revoked"])
async def test_a_removed_app_is_told_and_acknowledged(site: Site, name: str) -> None:
    assert (await site.line.event(payload(name))).ok

    [gone] = site.stored
    assert (gone.happening, gone.conversation.team, gone.partial) == ("gone", "T0ACME", False)


async def test_a_removal_that_cannot_be_stored_is_told_again(site: Site) -> None:
    site.failures = 1
    assert not (await site.line.event(payload("app_uninstalled"))).ok
    assert (await site.line.event(payload("app_uninstalled"))).ok
    assert len(site.stored) == 1


async def test_a_person_s_revoked_token_is_none_of_ours(site: Site) -> None:
    revoked = payload("tokens_revoked")
    revoked["event"]["tokens"] = {"oauth": ["U0DANA1234"], "bot": []}
    assert (await site.line.event(revoked)).ok
    assert site.stored == []


QUESTION = Question(
    text="Which repository?", to="slack:U0DANA1234",
    options=tuple(Option(label=f"acme/r{n}", words=f"acme/r{n}") for n in range(7)),
)  # fmt: skip


async def test_every_reply_is_one_that_slack_takes_and_shows_its_buttons(site: Site) -> None:
    card = Card(task="1", title="Fix", repo="acme/web", repo_reason="", agent="script", state="working", live=True)  # fmt: skip
    replies: list[Reply] = [card, QUESTION, Final(outcome="failed", text="no")]
    for n, reply in enumerate(replies):
        await site.channel.post(HERE, reply, key=f"k{n}")

    shown = [str(message["blocks"]) for message in site.api.messages["C0WEB"]]
    assert "say.stop" in shown[0]
    assert "details" in shown[0]
    assert "say_once.4" in shown[1]
    assert "choose" in shown[1]
    assert "acme/r6" in shown[1]
    assert "<@U0DANA1234>" in shown[1]
    assert "say_once.retry" in shown[2]


async def test_an_answered_question_offers_nothing(site: Site) -> None:
    posted = await site.channel.post(HERE, QUESTION, key="k")
    await site.channel.edit(HERE, posted, QUESTION.model_copy(update={"chosen": "acme/r1"}))

    [message] = site.api.messages["C0WEB"]
    assert "say_once" not in str(message["blocks"])
    assert "acme/r1" in str(message["text"])
