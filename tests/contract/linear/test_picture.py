"""The picture of a session in docs/channels/linear.md is drawn from what the adapter says."""

import re
from pathlib import Path
from textwrap import wrap

from integrations.channel import Card, Check, Final, Mark, Notice, Option, Question, Step, StepState
from tests.contract.linear.site import PAGE, Site
from tests.support.linear.entities import Activity, Session

PAGE_OF_DOCS = Path(__file__).parents[3] / "docs" / "channels" / "linear.md"
CARD = Card(
    task="01J", title="Fix the flaky login test", repo="acme/web", repo_reason="the default of linear:ENG",
    agent="claude-code", state="starting", live=True, url=f"{PAGE}/tasks/01J?key=k",
)  # fmt: skip
STEPS = tuple(
    Step(title=title, state=state)
    for title, state in (
        ("reproduce the failure", StepState.DONE),
        ("find the cause", StepState.DONE),
        ("fix it and add a test", StepState.RUNNING),
        ("run the suite", StepState.PENDING),
    )
)
DONE = Final(
    outcome="succeeded", text="the session cookie was read before it was set; the test now waits for it.",
    pull_url="https://github.com/acme/web/pull/481", pull_label="#481", files=2, added=14, removed=3,
    checks=(Check(command="npm test", passed=True),), elapsed_seconds=242, cost_usd=0.58,
    asked_by="Dana", review_state="In Review",
)  # fmt: skip
HOST = "registry.example.com"
OPTIONS = (
    Option(label="Allow once", words=f"allow {HOST}"),
    Option(label="Allow for acme/web", words=f"allow {HOST} for acme/web"),
    Option(label="Keep blocked", words=f"block {HOST}"),
)
SIGNS = {
    "thought": "…",
    "action": "▸",
    "elicitation": "?",
    "response": "✓",
    "error": "✗",
    "prompt": "",
}
PLAN = {"completed": "✓", "inProgress": "▸", "pending": "○"}
WIDTH = 96


async def lived(site: Site) -> Session:
    session = await site.delegated("Fix the flaky login test")
    channel, here = site.channel, site.conversation(session)
    await channel.mark(here, session.issue.id, Mark.SEEN, present=True)
    posted = await channel.post(here, CARD, key="card")
    working = CARD.model_copy(update={"state": "working", "doing": "editing tests/login.spec.ts"})
    await channel.edit(here, posted, working.model_copy(update={"steps": STEPS}))
    wanted = f"The agent wants {HOST} (GET, port 443), which is not on acme/web's list."
    await channel.post(here, Question(text=wanted, options=OPTIONS), key="host")
    await site.linear.people.prompt(session, f"block {HOST}")
    ruled = f"Dana kept {HOST} blocked for this errand and told the agent."
    await channel.post(here, Notice(text=ruled), key="ruled")
    await channel.post(here, DONE, key="final")
    done = tuple(step.model_copy(update={"state": StepState.DONE}) for step in STEPS)
    ended = CARD.model_copy(update={"state": "done", "live": False, "steps": done})
    await channel.edit(here, posted, ended)
    return session


def drawn(session: Session) -> str:
    issue, last = session.issue, [step for step in session.plan if step["content"]]
    links = " · ".join(link["label"] for link in session.external_links)
    plan = "   ".join(f"{PLAN[step['status']]} {step['content']}" for step in last)
    lines = [
        f"{issue.identifier} {issue.title} · {issue.state.name} · delegated to Errand by Dana",
        f"links: {links}",
        f"plan:  {plan}",
        "",
        *(line for activity in session.history for line in _said(activity)),
    ]
    return "\n".join(lines)


def _said(activity: Activity) -> list[str]:
    content = activity.content
    text = content.body or f"{content.action}  {content.parameter}"
    text += f"\n{content.result}" if content.result else ""
    text = re.sub(r"\[(.+?)\]\(<.*?>\)", r"[\1]", text.replace("**", ""))
    options = (activity.signal_metadata or {}).get("options", [])
    text += "".join(f"\n[{option['label']}]" for option in options)
    who = "Errand" if activity.user.app else activity.user.name
    lines = [part for line in text.splitlines() if line for part in wrap(line, WIDTH)]
    head = f"{who:<7}{SIGNS[content.type]:<2}"
    return [f"{head if number == 0 else ' ' * 9}{line}" for number, line in enumerate(lines)]


async def test_the_picture_is_what_is_said(site: Site) -> None:
    picture = drawn(await lived(site))
    assert f"```\n{picture}\n```" in PAGE_OF_DOCS.read_text(), picture
