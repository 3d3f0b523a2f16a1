"""A mention becomes a pull request, and what else may become of it."""

import json

import pytest

from bot.states import TaskState
from tests.e2e.conftest import Team
from tests.support.emulate import REPO
from tests.support.git_server import run_git
from tests.support.installation import until

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.emulate, pytest.mark.timeout(180)]

FIX = "The greeting is misspelt.\nrun recipe fix"


async def test_a_mention_becomes_a_pull_request(team: Team) -> None:
    thread = await team.mention(FIX)
    await team.hears(thread, REPO, seconds=2)
    assert "eyes" in await team.reactions(thread)

    task = await team.ends(thread)

    assert task.state is TaskState.SUCCEEDED, task.reason
    [pull] = await team.pulls()
    head = team.git.sha(REPO, task.branch)
    assert head is not None
    content = run_git(team.git.git_dir(REPO), "show", f"{head}:greet.py")
    assert content == b"print('hello')\n"
    assert (pull["head"]["ref"], pull["base"]["ref"]) == (task.branch, "main")
    assert "dana" in pull["body"]
    assert thread.replace(".", "") in pull["body"]
    last = (await team.thread(thread))[-1]
    assert pull["html_url"] in last
    assert await team.reactions(thread) == {"checkered_flag"}
    await team.errand.cleaned_up()

    [run] = await team.errand.runs()
    assert (run.fence, run.outcome, run.agent) == (1, "done", "script")
    assert run.image_digest.startswith("sha256:")
    assert run.base_commit == team.git.sha(REPO, "main")
    shown = team.errand.cli("task", "show", task.id)
    assert shown.returncode == 0, shown.stderr
    for fact in (run.image_digest, run.base_commit, task.policy_hash, run.host, task.requester):
        assert fact in shown.stdout.replace("\n", "")
    verified = team.errand.cli("audit", "verify")
    assert "unbroken" in verified.stdout, verified.stderr


async def test_a_bad_signature_is_refused_and_stores_nothing(team: Team) -> None:
    answer, _ = await team.event("<@U0ERRAND> " + FIX, secret="not-the-secret")
    assert answer.status_code == 401
    assert await team.errand.tasks() == []


async def test_the_same_event_twice_is_one_task(team: Team) -> None:
    thread = await team.mention(FIX, event_id="Ev1")
    await team.mention(FIX, event_id="Ev1", ts=thread)
    await team.event("<@U0ERRAND> " + FIX, kind="message", ts=thread, event_id="Ev2")
    await team.ends(thread)
    assert len(await team.errand.tasks()) == 1
    assert len(await team.pulls()) == 1


async def test_a_repo_that_the_policy_does_not_allow_is_refused_in_the_thread(team: Team) -> None:
    thread = await team.mention("acme/secret please")
    said = await team.hears(thread, "Refused", seconds=5)
    assert "acme/secret" in said
    assert await team.errand.tasks() == []


async def test_a_failing_recipe_fails_with_the_tail_of_its_output(team: Team) -> None:
    thread = await team.mention("do it\n```sh\necho fine\necho the-reason >&2; exit 3\n```")
    task = await team.ends(thread)
    assert task.state is TaskState.FAILED
    await team.hears(thread, "step 2 of 2", "the-reason", seconds=5)
    assert await team.pulls() == []
    assert await team.reactions(thread) == {"x"}
    await team.errand.cleaned_up()


async def test_stop_ends_a_run_within_five_seconds(team: Team) -> None:
    thread = await team.mention("wait\n```sh\necho begun\nsleep 300\n```")
    await team.hears(thread, "sleep 300", seconds=30)
    await team.reply("stop", thread)
    task = await team.errand.ended(seconds=5)
    assert task.state is TaskState.STOPPED
    await team.hears(thread, "topped", seconds=5)
    await team.ends(thread)
    assert await team.reactions(thread) == {"octagonal_sign"}
    await team.errand.cleaned_up()


async def test_an_agent_that_changes_nothing_opens_no_pull_request(team: Team) -> None:
    thread = await team.mention(
        "just look\n```sh\nsed -i s/helo/hello/ greet.py\ngit checkout greet.py\n```"
    )
    await team.ends(thread)
    assert await team.pulls() == []


async def test_a_reply_after_the_end_goes_on_on_the_same_branch(team: Team) -> None:
    thread = await team.mention(FIX)
    first = await team.ends(thread)
    before = team.git.sha(REPO, first.branch)
    await team.reply("and one more thing\n```sh\necho more >> README.md\n```", thread)

    async def moved() -> bool:
        return team.git.sha(REPO, first.branch) != before

    await until(moved, seconds=60, what="the branch has moved")
    second = await team.errand.ended()
    assert (second.id, second.round, second.state) == (first.id, 2, TaskState.SUCCEEDED)
    assert len(await team.pulls()) == 1


async def test_a_host_that_is_not_listed_is_refused_and_on_record(team: Team) -> None:
    thread = await team.mention(
        "look around\n```sh\ncurl -sS -o /dev/null -w 'status %{http_code}' http://denied.example.com/ || true\n"
        "curl -sS https://denied.example.com/ || true\nsed -i s/helo/hello/ greet.py\n```"
    )
    task = await team.ends(thread)
    assert task.state is TaskState.SUCCEEDED, task.reason
    said = "".join(e.record.event.model_dump_json() for e in await team.errand.events())
    assert "status 403" in said
    shown = json.loads(team.errand.cli("task", "show", task.id, "--json").stdout)
    refused = [a for a in shown["audit"] if a["action"] == "egress"]
    assert [(a["decision"], a["detail"]["host"], a["detail"]["port"]) for a in refused] == [
        ("deny", "denied.example.com", 80),
        ("deny", "denied.example.com", 443),
    ]


async def test_a_host_that_somebody_opens_reaches_the_running_agent(team: Team) -> None:
    thread = await team.mention(
        "look around\n```sh\n"
        "while curl -sS http://packages.acme.invalid/ | grep -q 'not on the list'; do sleep 0.1; done\n"
        "sed -i s/helo/hello/ greet.py\n```"
    )
    await team.hears(thread, "The agent wants", "packages.acme.invalid", seconds=30)
    await team.reply("allow packages.acme.invalid", thread)
    await team.hears(thread, "allowed packages.acme.invalid for this errand", seconds=5)
    task = await team.ends(thread)
    assert task.state is TaskState.SUCCEEDED, task.reason
    shown = json.loads(team.errand.cli("task", "show", task.id, "--json").stdout)
    rulings = [a for a in shown["audit"] if a["action"] == "egress_ruling"]
    assert [(a["decision"], a["detail"]["methods"]) for a in rulings] == [
        ("allow", ["GET", "HEAD"])
    ]


async def test_a_workflow_file_is_not_published(team: Team) -> None:
    thread = await team.mention(
        "add ci\n```sh\nsed -i s/helo/hello/ greet.py\nmkdir -p .github/workflows\necho 'on: push' > .github/workflows/x.yml\n```"
    )
    task = await team.ends(thread)
    assert task.state is TaskState.FAILED
    await team.hears(thread, ".github/workflows", "protected", seconds=5)
    assert await team.pulls() == []
    assert team.git.sha(REPO, task.branch) is None
