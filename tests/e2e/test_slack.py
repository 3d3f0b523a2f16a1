"""Slack from end to end: every way in leads to one pull request, and a long conversation reads as it should."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.states import TERMINAL
from bot.store.rows import TaskRow
from tests.e2e.slack_workspace import CHANNEL, PEOPLE, Workspace
from tests.support.emulate import GITHUB_TOKEN, REPO, emulate
from tests.support.git_server import GitServer, run_git
from tests.support.installation import installation, until
from tests.support.slack_api import BOT_TOKEN, BOT_USER, Json, slack_api
from tests.support.slack_payloads import SIGNING_SECRET

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(300)]

ME = f"<@{BOT_USER}>"
MEND = "mend the greeting\n```sh\nsed -i s/helo/hello/ greet.py\n```"
SNAPSHOT = Path(__file__).parent / "slack_conversation.txt"
POLICY = f"""\
version: 1
people:
  maintainers: ["slack:{PEOPLE["lee"]}"]
triggers: ["slack:emoji:hammer"]
rules:
  - {{who: [maintainers], where: ["*"], repos: ["*"], agents: [script], may: [start, steer, stop, approve, settings]}}
  - {{who: ["*"], where: ["slack:*"], repos: ["*"], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}: {{forge: github}}
  acme/api: {{forge: github}}
limits: {{wall_minutes: 5, memory: 256MB, cpus: 0.5, pids: 128, disk: 128MB, tasks_per_person: 10, tasks_per_repo: 10}}
"""


@pytest.fixture
async def workspace(tmp_path: Path, git: GitServer) -> AsyncIterator[Workspace]:
    async with slack_api() as api, emulate(("github",)) as world:
        api.people = {user: (name, name.title()) for name, user in PEOPLE.items()}
        settings = {
            "ERRAND_SLACK__BOT_TOKEN": BOT_TOKEN,
            "ERRAND_SLACK__SIGNING_SECRET": SIGNING_SECRET,
            "ERRAND_SLACK__API_URL": api.url,
            "ERRAND_GITHUB__TOKEN": git.token,
            "ERRAND_GITHUB__API_URL": world.github_url,
            "ERRAND_GITHUB__GIT_URL": git.url,
            "ERRAND_WORK__SLOTS": "8",
        }
        async with installation(tmp_path / "e", policy=POLICY, settings=settings) as errand:
            await errand.up()
            yield Workspace(errand=errand, api=api, git=git, github_url=world.github_url)


async def pulls(workspace: Workspace) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(
            f"{workspace.github_url}/repos/{REPO}/pulls?state=all",
            headers={"authorization": f"Bearer {GITHUB_TOKEN}"},
        )
    found: list[dict[str, Any]] = answer.json()
    return found


def appending(name: str) -> str:
    return f"add {name}\n```sh\nsed -i s/helo/hello/ greet.py\necho {name} >> README.md\n```"


async def test_every_way_in_leads_to_one_pull_request(workspace: Workspace) -> None:
    w = workspace
    await w.say("dana", f"{ME} {REPO} {appending('mention')}")
    root = w.api.say(CHANNEL, "the readme lacks a word", user=PEOPLE["lee"])
    await w.say("dana", f"{ME} {REPO} {appending('thread')}", thread=root)
    await w.say("dana", f"{REPO} {appending('direct')}", place="D0DANA1234")
    await w.command("dana", f"{REPO} {appending('command')}")
    lacking = w.api.say(CHANNEL, "and another one", user=PEOPLE["lee"])
    await w.shortcut("dana", lacking, values={"request": appending("shortcut"), "repo": REPO})
    await w.new_errand(
        "dana", values={"request": appending("global"), "repo": REPO, "place": CHANNEL}
    )
    hammered = w.api.say(CHANNEL, f"{REPO} {appending('emoji')}", user=PEOPLE["lee"])
    await w.react("dana", hammered, "hammer")
    later = await w.say("dana", f"{REPO} {appending('edited')}")
    await w.edit("dana", later, f"{ME} {REPO} {appending('edited')}", thread=later)

    async def ended() -> list[TaskRow]:
        found = await w.errand.tasks()
        return found if len(found) == 8 and all(t.state in TERMINAL for t in found) else []

    tasks = await until(ended, seconds=200, what="eight tasks have ended")
    assert {(t.state, t.reason) for t in tasks} == {("succeeded", "")}
    assert len(await pulls(w)) == 8
    titles = {t.title for t in tasks}
    assert titles == {f"add {n}" for n in ("mention", "thread", "direct", "command", "shortcut", "global", "emoji", "edited")}  # fmt: skip
    by_title = {t.title: t for t in tasks}
    assert "the readme lacks a word" in by_title["add thread"].context
    assert "and another one" in by_title["add shortcut"].context
    await w.settled()
    assert set(w.api.sessions.values()) == {"active"}


async def test_what_was_said_while_serve_was_off_is_worked_on_once(workspace: Workspace) -> None:
    w = workspace
    w.api._clock = int(time.time())
    await w.has_looked_around()
    w.errand.kill("serve")
    root = w.api.say(CHANNEL, f"{ME} {REPO} {MEND}", user=PEOPLE["dana"])
    w.errand.start("serve")
    await w.sees(root, "Done in", seconds=120)
    event = {"type": "app_mention", "user": PEOPLE["dana"], "text": f"{ME} {MEND}", "ts": root}
    await w._event({**event, "channel": CHANNEL}, CHANNEL)
    await w.settled()
    assert len(await w.errand.tasks()) == 1
    assert len(await pulls(w)) == 1


async def test_a_long_conversation_reads_as_it_should(workspace: Workspace, tmp_path: Path) -> None:
    w = workspace
    root, card = await _begun(w)
    await _talked_over(w, root)
    await w.click("dana", card, "say.stop")
    await w.sees(root, "Stopped after")
    await w.settled()
    await _gone_on(w, root)

    [task] = await w.errand.tasks()
    assert task.round == 5
    assert len(await pulls(w)) == 1
    transcript = w.transcript(root)
    seen = tmp_path / SNAPSHOT.name
    seen.write_text(transcript)
    assert transcript == SNAPSHOT.read_text(), f"compare {seen} with {SNAPSHOT}"


async def _begun(w: Workspace) -> tuple[str, Json]:
    """Which repository is meant is asked of dana, and of nobody else; a second click changes nothing."""
    root = await w.say(
        "dana",
        f"{ME} Mend the greeting.\n```sh\ncurl -s http://mirror.example.com/\n"
        "curl -s http://registry.example.com/\nsleep 300\n```",
    )
    asked = await w.sees(root, "Which one is meant?")
    shown = asked["blocks"]
    await w.click("lee", asked, REPO)
    await w.settled()
    await w.click("dana", asked, REPO)
    card = await w.sees(root, "sleep 300")
    await w.click("dana", {**asked, "blocks": shown}, "acme/api")
    await w.settled()
    return root, card


async def _talked_over(w: Workspace, root: str) -> None:
    # Hosts that are on no list are asked about; only a maintainer decides.
    first = await w.sees(root, "wants mirror.example.com")
    second = await w.sees(root, "wants registry.example.com")
    await w.click("dana", first, "allow mirror.example.com")
    await w.sees(root, "Refused")
    await w.click("lee", first, "allow mirror.example.com")
    await w.sees(root, "allowed mirror.example.com for this errand")
    await w.say("lee", "keep registry.example.com blocked", thread=root)
    await w.sees(root, "kept registry.example.com blocked")
    assert "blocked by" in str(second["text"])
    # What is said meanwhile reaches the agent, unless people are among themselves.
    await w.say("dana", "status", thread=root)
    await w.sees(root, "working, ")
    await w.say("dana", "and bump the timeout", thread=root)
    await w.sees(root, "Noted")
    await w.settled()
    await w.edit("dana", root, f"{ME} Mend the greeting, please.", thread=root)
    await w.settled()
    await w.say("lee", "mute", thread=root)
    await w.sees(root, "unless they mention me")
    await w.say("sam", "lunch?", thread=root)
    await w.settled()
    await w.say("lee", "unmute", thread=root)
    await w.sees(root, "meant for me again")


async def _gone_on(w: Workspace, root: str) -> None:
    # Go on after the end, on the same task.
    ended = len(w.thread(root))
    await w.say("dana", "do it like this\n```sh\nsed -i s/helo/hello/ greet.py\n```", thread=root)
    done = await w.sees(root, "Done in", after=ended)
    await w.settled()
    await w.click("dana", done, "rate", value="good")
    await w.say("sam", "thanks", thread=root)
    # What fails can be run again.
    failing = len(w.thread(root))
    await w.say("dana", "and check it\n```sh\necho nothing to see >&2; exit 3\n```", thread=root)
    failed = await w.sees(root, "Failed", after=failing)
    await w.settled()
    again = len(w.thread(root))
    await w.click("dana", failed, "retry")
    await w.sees(root, "Failed", after=again)
    await w.settled()
    # The next day it still goes on, on the same pull request.
    await w.a_day_passes()
    last = len(w.thread(root))
    await w.say("dana", "one more line\n```sh\necho more >> README.md\n```", thread=root)
    await w.sees(root, "Done in", after=last)
    await w.settled()


ASKING = f"""{ME} {REPO} Mend the greeting.
```sh
word=$(ask "Which greeting?" hello hi)
note=$(ask "And for the readme?")
sed -i "s/helo/$word/" greet.py
echo "$note" >> README.md
```"""


async def test_an_agent_asks_and_goes_on_with_the_answers(workspace: Workspace) -> None:
    """By a button and in words; the worker is killed while it waits, and a second click changes nothing."""
    w = workspace
    root = await w.say("dana", ASKING)
    asked = await w.sees(root, "Which greeting?", "• hello")
    shown = asked["blocks"]
    await w.sees(root, "waiting for you", "asks: Which greeting?")
    w.errand.kill("work")
    w.errand.start("work")
    await w.click("dana", asked, "hello")
    await w.sees(root, "dana answered: hello")
    await w.sees(root, "And for the readme?", "<@")
    await w.click("lee", {**asked, "blocks": shown}, "hi")
    await w.settled()
    await w.say("dana", "say hello & wave", thread=root)
    await w.sees(root, "Done in", seconds=90)

    [task] = await w.errand.tasks()
    assert (task.fence, task.attempts) == (1, 1)
    assert len(await pulls(w)) == 1
    files = {
        name: run_git(w.git.git_dir(REPO), "show", f"{task.branch}:{name}").decode()
        for name in ("greet.py", "README.md")
    }
    assert files == {"greet.py": "print('hello')\n", "README.md": "# web\nsay hello & wave\n"}
    await w.sees(root, "dana answered: say hello &amp; wave")


async def test_a_stop_ends_what_waits_for_an_answer(workspace: Workspace) -> None:
    w = workspace
    root = await w.say("dana", ASKING)
    asked = await w.sees(root, "Which greeting?", "• hello")
    await w.say("dana", "stop", thread=root)
    await w.sees(root, "Stopped after")
    await w.settled()
    assert "not answered" in str(asked["text"])
    assert await pulls(w) == []
