"""What we say in Linear: few requests, nothing twice, and one last word."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.channel import (
    Card,
    Check,
    Conversation,
    Final,
    Mark,
    Notice,
    Opening,
    Option,
    Question,
    Step,
    StepState,
)
from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from tests.contract.linear.site import PAGE, Site, site_for
from tests.support.linear import faults
from tests.support.linear.entities import Session
from tests.support.linear.server import LinearApi

SINCE = datetime.now(UTC) - timedelta(hours=1)
TASK_PAGE = f"{PAGE}/tasks/01J?key=k"
PULL = "https://github.com/acme/web/pull/12"
CARD = Card(
    task="01J", title="Fix it", repo="acme/web", repo_reason="default of ENG", agent="claude-code",
    state="working", live=True, url=TASK_PAGE,
)  # fmt: skip
STEPS = (
    Step(title="look", state=StepState.DONE),
    Step(title="fix", state=StepState.RUNNING),
    Step(title="try", state=StepState.PENDING),
    Step(title="give up", state=StepState.FAILED),
)
DONE = Final(
    outcome="succeeded", text="The cookie was read too early.", pull_url=PULL, pull_label="#12",
    files=2, added=14, removed=3, checks=(Check(command="npm test", passed=True),),
    elapsed_seconds=242, review_state="In Review",
)  # fmt: skip


def changed(card: Card = CARD, **changes: Any) -> Card:
    return card.model_copy(update=changes)


@pytest.fixture
async def session(site: Site) -> Session:
    made = await site.delegated()
    site.linear.requests.clear()
    return made


@pytest.fixture
def here(site: Site, session: Session) -> Conversation:
    return site.conversation(session)


# --- cards


async def test_a_card_is_an_address_a_plan_and_an_activity(
    site: Site, session: Session, here: Conversation
) -> None:
    await site.channel.post(here, changed(steps=STEPS), key="k1")
    assert session.external_links == [{"label": "Errand", "url": TASK_PAGE}]
    assert session.plan == [
        {"content": "look", "status": "completed"},
        {"content": "fix", "status": "inProgress"},
        {"content": "try", "status": "pending"},
        {"content": "give up", "status": "canceled"},
    ]
    assert session.said() == ["Working acme/web (default of ENG) · claude-code"]
    assert session.status == "active"


async def test_a_second_round_keeps_the_address(
    site: Site, session: Session, here: Conversation
) -> None:
    await site.channel.post(here, CARD, key="k1")
    await site.channel.post(here, CARD, key="k2")
    assert session.urls == [TASK_PAGE]


async def test_an_edit_is_one_request_or_none(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    posted = await site.channel.post(here, CARD, key="k1")
    linear.requests.clear()

    await site.channel.edit(here, posted, changed(elapsed_seconds=30, cost_usd=0.1))
    assert linear.count() == 0
    await site.channel.edit(here, posted, changed(doing="editing a.py", steps=STEPS))
    assert linear.count() == 1
    await site.channel.edit(here, posted, changed(doing="editing a.py", steps=STEPS))
    assert linear.count() == 1
    await site.channel.edit(here, posted, changed(doing="running npm test", steps=STEPS))
    assert linear.count() == 2
    assert session.said("action")[1:] == ["Editing a.py", "Running npm test"]
    assert session.plan[0] == {"content": "look", "status": "completed"}


async def test_a_session_that_waits_for_an_answer_goes_on_waiting(
    site: Site, session: Session, here: Conversation
) -> None:
    posted = await site.channel.post(here, CARD, key="k1")
    option = Option(label="a", words="a")
    await site.channel.post(here, Question(text="Which?", options=(option,)), key="k2")
    waits = changed(state="waiting for you", waits=True, doing="asks: Which?", steps=STEPS)
    await site.channel.edit(here, posted, waits)
    await site.channel.edit(here, posted, waits.model_copy(update={"elapsed_seconds": 4000}))
    assert session.status == "awaitingInput"
    assert len(session.plan) == len(STEPS)
    await site.channel.edit(here, posted, changed(doing="editing a.py", steps=STEPS))
    assert session.status == "active"


async def test_a_card_is_shown_again_by_another_process_without_saying_it_twice(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    card = changed(doing="editing a.py", steps=STEPS)
    posted = await site.channel.post(here, CARD, key="k1")
    await site.channel.edit(here, posted, card)
    async with site_for(linear, notes=site.notes) as other:
        await other.channel.edit(here, posted, card)
    assert session.said("action")[1:] == ["Editing a.py"]


async def test_long_work_gives_a_sign_of_life_before_linear_calls_it_stale(
    site: Site, session: Session, here: Conversation
) -> None:
    card = changed(doing="running npm test")
    posted = await site.channel.post(here, CARD, key="k1")
    for seconds in range(0, 2 * 3600, 300):
        await site.channel.edit(here, posted, changed(card, elapsed_seconds=seconds))
    still = [a for a in session.history if a.content.body.startswith("Still at it")]
    assert len(still) == 5
    assert all(activity.ephemeral for activity in still)
    assert "npm test" in still[-1].content.body


async def test_nothing_is_done_once_it_is_being_stopped(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    posted = await site.channel.post(here, changed(steps=STEPS), key="k1")
    await linear.people.stop(session)
    linear.requests.clear()

    stopping = changed(state="stopping", doing="killing it", steps=STEPS[:1])
    await site.channel.edit(here, posted, stopping)
    assert linear.requests == []
    await site.channel.post(here, Final(outcome="stopped", text="Nothing was published."), key="k2")
    assert [request.names[0] for request in linear.requests] == ["CreateActivity"]
    assert session.status == "complete"
    await site.channel.edit(here, posted, changed(state="stopped", live=False, steps=STEPS))
    assert linear.count() == 1


async def test_ten_minutes_cost_forty_requests_at_most(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    posted = await site.channel.post(here, CARD, key="k1")
    for second in range(0, 600, int(site.channel.edit_seconds)):
        card = changed(doing=f"editing {second}.py", elapsed_seconds=second, steps=STEPS)
        await site.channel.edit(here, posted, card)
    await site.channel.post(here, DONE, key="k2")
    await site.channel.edit(here, posted, changed(live=False, state="done", steps=STEPS[:1]))
    assert linear.count() <= 40


# --- notices and questions


async def test_a_notice_is_a_thought_while_work_goes_on(
    site: Site, session: Session, here: Conversation
) -> None:
    await site.channel.post(here, CARD, key="k1")
    await site.channel.post(here, Notice(text="Noted."), key="k2")
    await site.channel.post(here, Notice(text="Refused: no.", error=True), key="k3")
    assert session.said("thought") == ["Noted.", "⚠️ Refused: no."]
    assert session.status == "active"


@pytest.mark.parametrize(("error", "status"), [(False, "complete"), (True, "error")])
async def test_a_notice_where_nothing_runs_is_the_answer(
    site: Site, session: Session, here: Conversation, *, error: bool, status: str
) -> None:
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    await site.channel.post(here, Notice(text="Nothing runs here.", error=error), key="k1")
    assert session.status == status

    await site.channel.post(here, CARD, key="k2")
    await site.channel.post(here, DONE, key="k3")
    await site.channel.post(here, Notice(text="Nothing runs here.", error=error), key="k4")
    assert session.status == status


async def test_a_question_can_be_answered_with_a_click(
    site: Site, session: Session, here: Conversation
) -> None:
    options = (Option(label="The web app", words="acme/web"), Option(label="API", words="acme/api"))
    await site.channel.post(here, Question(text="Where?", options=options), key="k1")
    [asked] = session.shown
    assert asked.content.type == "elicitation"
    assert asked.signal == "select"
    assert asked.signal_metadata == {
        "options": [
            {"label": "The web app", "value": "acme/web"},
            {"label": "API", "value": "acme/api"},
        ]
    }
    assert session.status == "awaitingInput"


async def test_a_question_without_choices_is_one(
    site: Site, session: Session, here: Conversation
) -> None:
    await site.channel.post(here, Question(text="Where?", options=()), key="k1")
    assert session.shown[0].signal is None


# --- the last word


async def test_the_end_is_links_a_state_and_one_word(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    await site.channel.post(here, CARD, key="k1")
    await site.channel.post(here, DONE, key="k2")
    assert session.urls == [TASK_PAGE, PULL]
    [attachment] = linear.world.attachments
    assert (attachment.url, attachment.source_type) == (PULL, "github")
    assert session.issue.state.name == "In Review"
    [last] = session.said("response")
    assert "Done in 4 min 02 s" in last
    assert "2 files, +14" in last
    assert "`npm test` passed" in last
    assert f"[Open pull request #12](<{PULL}>)" in last


async def test_a_failure_is_an_error_with_its_tail(
    site: Site, session: Session, here: Conversation
) -> None:
    final = Final(outcome="failed", text="It does not build.", tail="a ``` b")
    await site.channel.post(here, final, key="k1")
    [last] = session.said("error")
    assert "It does not build." in last
    assert "````\na ``` b\n````" in last
    assert session.status == "error"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8400/forge/acme/web/pulls/1", "https://github.com/acme/web/pull/1"]
)
async def test_without_linears_github_integration_the_link_is_plain(
    site: Site, here: Conversation, linear: LinearApi, url: str
) -> None:
    linear.world.github_integration = False
    await site.channel.post(here, DONE.model_copy(update={"pull_url": url}), key="k1")
    [attachment] = linear.world.attachments
    assert (attachment.url, attachment.title, attachment.source_type) == (
        url, "Pull request #12", None,
    )  # fmt: skip


@pytest.mark.parametrize("state", ["completed", "canceled"])
async def test_a_ticket_that_is_closed_stays_closed(
    site: Site, session: Session, here: Conversation, linear: LinearApi, state: str
) -> None:
    await linear.people.move(session.issue, state)
    await site.channel.post(here, DONE, key="k1")
    assert session.issue.state.type == state


async def test_a_state_that_is_not_there_does_not_hold_up_the_last_word(
    site: Site, session: Session, here: Conversation
) -> None:
    final = DONE.model_copy(update={"review_state": "Elsewhere"})
    await site.channel.post(here, final, key="k1")
    assert session.status == "complete"
    assert session.issue.state.type == "unstarted"


@pytest.mark.parametrize(
    "operation", ["SessionEnd", "UpdateSession", "attachmentLinkGitHubPR", "issueUpdate"]
)
async def test_what_linear_refuses_does_not_hold_up_the_last_word(
    site: Site, session: Session, here: Conversation, linear: LinearApi, operation: str
) -> None:
    linear.faults.add(faults.permanent(), operation=operation)
    await site.channel.post(here, DONE, key="k1")
    assert session.status == "complete"


@pytest.mark.parametrize(
    "operation",
    ["SessionEnd", "UpdateSession", "attachmentLinkGitHubPR", "issueUpdate", "CreateActivity"],
)
@pytest.mark.parametrize("effect", [True, False])
async def test_what_was_cut_off_is_done_again_and_stands_once(
    site: Site, session: Session, here: Conversation, linear: LinearApi, operation: str,
    *, effect: bool,
) -> None:  # fmt: skip
    linear.faults.add(faults.cut(effect=effect), operation=operation)
    with pytest.raises(UnavailableError):
        await site.channel.post(here, DONE, key="k1")
    await site.channel.post(here, DONE, key="k1")
    assert session.urls == [PULL]
    assert len(linear.world.attachments) == 1
    assert len(session.said("response")) == 1
    assert session.issue.state.name == "In Review"


# --- beginnings


async def test_a_ticket_from_a_person_is_started_and_ours(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    issue = session.issue
    await linear.people.unassign(issue)
    for _ in range(2):
        await site.channel.mark(here, issue.id, Mark.SEEN, present=True)
    assert issue.state.name == "In Progress"
    assert issue.delegate is linear.world.app
    assert len(session.said("thought")) == 1


async def test_another_agents_ticket_stays_with_it(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    session.issue.delegate = linear.world.rival
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    assert session.issue.delegate is linear.world.rival


@pytest.mark.parametrize("automation", [True, False])
async def test_an_automation_does_not_triage(
    site: Site, linear: LinearApi, *, automation: bool
) -> None:
    issue = linear.world.issue("Fix it", state="triage")
    session = await linear.people.delegate(issue, automation=automation)
    await site.channel.mark(site.conversation(session), issue.id, Mark.SEEN, present=True)
    assert issue.state.type == ("triage" if automation else "started")


@pytest.mark.parametrize("state", ["In Review", "completed", "canceled"])
async def test_what_is_under_way_or_over_is_not_moved(
    site: Site, session: Session, here: Conversation, state: str
) -> None:
    before = session.issue.state = session.issue.team.state(state)
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    assert session.issue.state is before


@pytest.mark.parametrize("mark", [Mark.DONE, Mark.FAILED, Mark.STOPPED])
async def test_how_it_ended_the_session_shows(
    site: Site, session: Session, here: Conversation, linear: LinearApi, mark: Mark
) -> None:
    await site.channel.mark(here, session.issue.id, mark, present=True)
    await site.channel.mark(here, session.issue.id, Mark.SEEN, present=False)
    assert linear.requests == []


async def test_a_ticket_without_a_session_gets_one_when_there_is_something_to_say(
    site: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix it")
    here = site.about(issue, f"issue:{issue.id}")
    assert await site.channel.find(here, key="k1", since=SINCE) is None
    await site.channel.mark(here, issue.id, Mark.SEEN, present=True)
    posted = await site.channel.post(here, CARD, key="k1")
    await site.channel.edit(here, posted, changed(doing="editing a.py"))

    [session] = linear.world.sessions
    assert session.urls == [TASK_PAGE]
    assert session.said("action")[1:] == ["Editing a.py"]
    assert await site.channel.find(here, key="k1", since=SINCE) == posted


@pytest.mark.parametrize("effect", [True, False])
async def test_a_session_whose_beginning_was_cut_off_is_begun_once(
    site: Site, linear: LinearApi, *, effect: bool
) -> None:
    issue = linear.world.issue("Fix it")
    here = site.about(issue, f"issue:{issue.id}")
    linear.faults.add(faults.cut(effect=effect), operation="agentSessionCreateOnIssue")
    with pytest.raises(UnavailableError):
        await site.channel.post(here, CARD, key="k1")
    async with site_for(linear, notes=site.notes) as other:
        await other.channel.post(here, CARD, key="k1")
    assert len(linear.world.sessions) == 1


# --- conversations of ours


async def test_work_from_elsewhere_is_shown_on_the_ticket_it_names(
    site: Site, linear: LinearApi
) -> None:
    issue = linear.world.issue("Fix it")
    where = Conversation(channel="linear", place="ENG", thread=issue.identifier)
    opening = Opening(title="Fix it", text="Asked by dana", url=TASK_PAGE)
    begun = [await site.channel.open(where, opening, key="k1") for _ in range(2)]
    [session] = linear.world.sessions
    assert begun == [site.conversation(session)] * 2
    assert session.urls == [TASK_PAGE]


@pytest.mark.parametrize("operation", ["issueCreate", "agentSessionCreateOnIssue"])
@pytest.mark.parametrize("effect", [True, False])
async def test_a_new_ticket_is_made_once(
    site: Site, linear: LinearApi, operation: str, *, effect: bool
) -> None:
    where = Conversation(channel="linear", place="OPS", thread="")
    opening = Opening(
        title="Fix it", text="Asked by @dana", url=TASK_PAGE, link="https://slack.example/p1"
    )
    linear.faults.add(faults.cut(effect=effect), operation=operation)
    with pytest.raises(UnavailableError):
        await site.channel.open(where, opening, key="k1")
    begun = await site.channel.open(where, opening, key="k1")

    [issue], [session] = linear.world.issues, linear.world.sessions
    assert begun == site.conversation(session)
    assert (issue.team.key, issue.title) == ("OPS", "Fix it")
    assert "https://slack.example/p1" in (issue.description or "")
    assert "@dana" not in (issue.description or "")


@pytest.mark.parametrize(("place", "thread"), [("NIX", ""), ("ENG", "ENG-404")])
async def test_what_is_not_there_is_nothing_to_begin_on(
    site: Site, place: str, thread: str
) -> None:
    where = Conversation(channel="linear", place=place, thread=thread)
    with pytest.raises(RejectedError):
        await site.channel.open(where, Opening(title="Fix it", text="", url=TASK_PAGE), key="k1")


# --- the tracker


async def test_linear_is_asked_which_repository_is_meant(
    site: Site, session: Session, linear: LinearApi
) -> None:
    linear.world.suggestions[session.issue.id] = [("Acme/web", 0.4), ("acme/api", 0.9)]
    inbound = (await heard(site, session)).model_copy(update={"partial": False})
    found = await site.channel.suggest(inbound, ["acme/web", "acme/api", "acme/x"])
    assert found is not None
    assert (found.repo, found.confidence) == ("acme/api", 0.9)
    assert await site.channel.suggest(inbound, []) is None
    assert await site.channel.suggest(inbound, ["acme/x"]) is None


async def heard(site: Site, session: Session) -> Any:
    await site.channel.polling(site.receive).round()
    return next(one for one in site.inbounds if one.message_id == session.issue.id)


async def test_open_blockers_are_named(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    first, second = linear.world.issue("First"), linear.world.issue("Second")
    await linear.people.block(session.issue, first)
    await linear.people.block(session.issue, second)
    await linear.people.complete(first)
    assert await site.channel.blockers(here) == (second.identifier,)
    alone = site.about(session.issue, f"issue:{session.issue.id}")
    assert await site.channel.blockers(alone) == (second.identifier,)
    await linear.people.cancel(second)
    assert await site.channel.blockers(here) == ()


def test_a_ticket_is_one_of_a_team_we_know(site: Site) -> None:
    assert site.channel.item_in("see UTF-8, then ENG-12 and OPS-1") == "ENG-12"
    assert site.channel.item_in("https://linear.app/acme/issue/OPS-7/fix-it") == "OPS-7"
    assert site.channel.item_in("eng-12 ENG-0 XENG-1 ENG-12a") is None


async def test_people_have_names(site: Site, linear: LinearApi) -> None:
    for person in ("linear:dana@acme.example", f"linear:{linear.world.dana.id}"):
        for _ in range(2):
            assert await site.channel.name_of(person) == "dana"
    assert await site.channel.name_of("linear:automation") == "an automation"
    assert linear.count() == 2
    with pytest.raises(RejectedError):
        await site.channel.name_of("linear:nobody@acme.example")
    with pytest.raises(RejectedError):
        await site.channel.name_of("linear:nobody")


# --- what goes wrong


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.rate_limited(900), RateLimitedError),
        (faults.rate_limited(900, retry_after=True), RateLimitedError),
        (faults.server_error(502), UnavailableError),
        (faults.server_error(200), UnavailableError),
        (faults.server_error(302), UnavailableError),
        (faults.server_error(404), RejectedError),
        (faults.cut(effect=False), UnavailableError),
        (faults.permanent(), RejectedError),
    ],
)
async def test_every_failure_becomes_the_error_of_who_can_act(
    site: Site, here: Conversation, linear: LinearApi, fault: faults.Fault,
    error: type[IntegrationError],
) -> None:  # fmt: skip
    linear.faults.add(fault, operation="agentActivityCreate", times=2)
    with pytest.raises(IntegrationError) as raised:
        await site.channel.post(here, Question(text="Where?", options=()), key="k1")
    assert type(raised.value) is error
    if isinstance(raised.value, RateLimitedError):
        assert 600 < raised.value.retry_after <= 900


async def test_linear_out_of_reach_is_unavailable(site: Site, here: Conversation) -> None:
    site.channel._graphql._url = "http://127.0.0.1:9/graphql"
    await site.channel.close()
    with pytest.raises(UnavailableError):
        await site.channel.post(here, CARD, key="k1")


@pytest.mark.parametrize("effect", [True, False])
async def test_a_post_whose_answer_was_lost_is_found_or_not(
    site: Site, session: Session, here: Conversation, linear: LinearApi, *, effect: bool
) -> None:
    linear.faults.add(faults.server_error(502, effect=effect), operation="agentActivityCreate")
    asked = Question(text="Where?", options=())
    with pytest.raises(UnavailableError):
        await site.channel.post(here, asked, key="k1")
    found = await site.channel.find(here, key="k1", since=SINCE)
    assert (found is not None) == effect
    assert found in {None, await site.channel.post(here, asked, key="k1")}
    assert session.said() == ["Where?"]


async def test_a_duplicate_in_other_words_is_looked_up(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    asked = Question(text="Where?", options=())
    await site.channel.post(here, asked, key="k1")
    linear.faults.add(faults.permanent("That cannot be."), operation="agentActivityCreate")
    await site.channel.post(here, asked, key="k1")
    assert session.said() == ["Where?"]


async def test_a_token_that_linear_refuses_twice_is_an_auth_error(
    site: Site, here: Conversation, linear: LinearApi
) -> None:
    linear.oauth.forget_all()
    with pytest.raises(AuthError):
        await site.channel.post(here, CARD, key="k1")


async def test_values_that_are_not_known_yet_are_borne(
    site: Site, session: Session, here: Conversation, linear: LinearApi
) -> None:
    linear.faults.add(faults.unknown("issue.state.type"), operation="IssueSessions")
    issue = await site.channel._sessions.on_issue(here.team, session.issue.id)
    assert issue.state.is_open
