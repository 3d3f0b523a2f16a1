"""From handed-in commits to a pull request, whatever comes between."""

from pathlib import Path

import pytest
from typing_extensions import override

from bot.kept import is_kept
from bot.patience import GIVE_UP_SECONDS, PUZZLED_SECONDS
from bot.publish import RETRY_SECONDS
from bot.states import TaskState
from bot.store import events, tasks
from bot.store.rows import TaskRow
from integrations.channel import FileChange, Mark
from integrations.errors import RateLimitedError, RejectedError, UnavailableError
from integrations.forge import GitAccess, Pull, PullDraft
from integrations.localforge.forge import LocalForge
from integrations.testing_forge import FakeRepo
from runner.protocol import EventRecord, RunKey, Said
from tests.contract.flow.office import Office
from tests.contract.flow.press import REPO, Press, publish_due
from tests.support.git_server import commit, run_git


@pytest.fixture
async def press(office: Office, tmp_path: Path) -> Press:
    return await Press.of(office, tmp_path)


async def failed(press: Press, *words: str) -> TaskRow:
    """The task has failed, once, and the last word says why."""
    task = await press.office.task()
    assert task.state is TaskState.FAILED
    [word] = await press.office.finals()
    assert word.outcome == "failed"
    assert all(w in word.text for w in words), word.text
    assert await press.office.marks() == {Mark.FAILED}
    return task


async def test_handed_in_commits_become_a_branch_and_a_pull_request(press: Press) -> None:
    run = await press.work()
    head = press.handed_in.hand_in(run).head
    press.office.clock.forward(90)
    await publish_due(press.new_publisher())
    task = await press.office.task()
    assert (task.state, press.at(task.branch)) == (TaskState.SUCCEEDED, head)
    assert task.pull_url == "http://forge.example/forge/acme/web/pulls/1"
    [word] = await press.office.finals()
    assert (word.outcome, word.pull_url, word.text) == (
        "succeeded", task.pull_url, "The greeting was misspelt.",
    )  # fmt: skip
    assert (word.files, word.added, word.removed, word.elapsed_seconds) == (1, 1, 1, 90)
    assert [(c.command, c.passed) for c in word.checks] == [("make test", True)]
    assert await press.office.marks() == {Mark.DONE}


async def stopped(press: Press, *, on: str = "main") -> RunKey:
    """A stopped run has handed in what there was."""
    run = await press.work(on=on)
    await press.office.put(TaskState.KEEPING)
    return run


async def test_what_a_stopped_run_leaves_is_put_on_its_branch_only(press: Press) -> None:
    run = await stopped(press)
    head = press.handed_in.hand_in(run).head
    await publish_due(press.new_publisher())
    task = await press.office.task()
    assert (task.state, task.pull_url, press.at(task.branch)) == (TaskState.STOPPED, "", head)
    assert await press.pulls() == 0
    [word] = await press.office.finals()
    assert (word.outcome, word.files, word.pull_url) == ("stopped", 1, "")
    assert task.branch in word.text
    assert await press.office.marks() == {Mark.STOPPED}
    [row] = await press.office.record("kept")
    assert row.detail["head"] == head
    async with press.office.store.read() as conn:
        assert await is_kept(conn, task)


async def test_what_was_kept_is_published_with_what_comes_after_it(press: Press) -> None:
    await stopped(press)
    await publish_due(press.new_publisher())
    kept = await press.office.task()
    await press.office.hear("go on", addressed=False)
    run = await press.work_again({"greet.py": "print('hello!')\n"}, on=kept.branch)
    await publish_due(press.new_publisher())
    task = await press.office.task()
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert run.fence > 1
    assert await press.pulls() == 1
    async with press.office.store.read() as conn:
        assert not await is_kept(conn, task)


async def test_work_that_may_not_go_is_not_kept_and_the_stop_says_why(press: Press) -> None:
    await press.work({".github/workflows/ci.yml": "on: push\n"})
    await press.office.put(TaskState.KEEPING)
    await publish_due(press.new_publisher())
    task = await press.office.task()
    assert (task.state, press.at(task.branch)) == (TaskState.STOPPED, "")
    [word] = await press.office.finals()
    assert word.outcome == "stopped"
    assert ".github/workflows/ci.yml" in word.text


async def test_a_forge_that_is_away_does_not_hold_up_a_stop_for_long(press: Press) -> None:
    await stopped(press)
    press.fake().fail_at("default_branch", UnavailableError("local", "away"))
    publisher = press.new_publisher()
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.KEEPING
    press.office.clock.forward(PUZZLED_SECONDS + 1)
    press.fake().fail_at("default_branch", UnavailableError("local", "away"))
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.STOPPED


async def test_nothing_is_left_of_a_publication_but_its_record(press: Press) -> None:
    run = await press.work()
    await publish_due(press.new_publisher())
    assert not press.handed_in.bundle(run).exists()
    assert list((press.root / "publish" / "quarantine").iterdir()) == []
    [row] = await press.office.record("published")
    assert row.decision == "granted"


async def test_the_last_word_has_the_files_by_name(press: Press) -> None:
    await press.work()
    await publish_due(press.new_publisher())
    [word] = await press.office.finals()
    assert word.changed == (FileChange(path="greet.py", added=1, removed=1),)
    assert (word.files, word.added, word.removed) == (1, 1, 1)


async def test_the_last_word_of_a_long_run_has_its_checks(press: Press) -> None:
    run = await press.work()
    later = press.office.clock.now()
    many = [
        EventRecord(run=run, source="agent", seq=n, at=later, event=Said(text="x"))
        for n in range(10_001)
    ]
    async with press.office.store.begin() as tx:
        await events.insert_many(tx, many, now=later)
    await publish_due(press.new_publisher())
    [word] = await press.office.finals()
    assert word.text == "The greeting was misspelt."


class DiedError(BaseException):
    """The process ended here, and nothing in it goes on."""


class DyingForge(LocalForge):
    """A forge after whose answer the process dies, once."""

    def __init__(self, root: Path, base_url: str, *, dies_after: str) -> None:
        super().__init__(root, base_url)
        self._dies_after = dies_after

    def _called(self, name: str) -> None:
        if name == self._dies_after:
            self._dies_after = ""
            raise DiedError

    @override
    async def default_branch(self, repo: str) -> str:
        branch = await super().default_branch(repo)
        self._called("default_branch")
        return branch

    @override
    async def access(self, repo: str, *, write: bool) -> GitAccess:
        access = await super().access(repo, write=write)
        self._called("access for writing" if write else "access")
        return access

    @override
    async def find_pull(self, repo: str, *, head: str) -> Pull | None:
        pull = await super().find_pull(repo, head=head)
        self._called("find_pull")
        return pull

    @override
    async def open_pull(self, draft: PullDraft) -> Pull:
        pull = await super().open_pull(draft)
        self._called("open_pull")
        return pull


STEPS = ["default_branch", "access", "access for writing", "find_pull", "open_pull"]


async def published_once(press: Press) -> None:
    task = await press.office.task()
    assert task.state is TaskState.SUCCEEDED
    assert press.pushes(task.branch) == 1
    assert await press.pulls() == 1
    assert len(await press.office.finals()) == 1


@pytest.mark.parametrize("step", STEPS)
async def test_a_publication_that_was_interrupted_begins_again(press: Press, step: str) -> None:
    press.forges["local"] = DyingForge(
        press.root / "forge", "http://forge.example", dies_after=step
    )
    await press.work()
    with pytest.raises(DiedError):
        await publish_due(press.new_publisher())
    assert (await press.office.task()).state is TaskState.PUBLISHING
    await publish_due(press.new_publisher())
    await published_once(press)


async def test_a_publication_whose_end_was_not_stored_begins_again(press: Press) -> None:
    await press.work()
    async with press.office.refusing("audit"):
        await publish_due(press.new_publisher())
    assert (await press.office.task()).state is TaskState.PUBLISHING
    await publish_due(press.new_publisher())
    await published_once(press)


async def test_what_the_gate_refuses_fails_and_says_why(press: Press) -> None:
    await press.work({".github/workflows/ci.yml": "on: push\n"})
    await publish_due(press.new_publisher())
    task = await failed(press, ".github/workflows/ci.yml")
    assert press.at(task.branch) == ""
    assert await press.pulls() == 0


async def test_a_base_that_the_forge_does_not_have_is_refused(press: Press) -> None:
    run = await press.work()
    task = await press.office.task()
    work = press.root / "work-1.git"
    hidden = commit(work, {".github/workflows/ci.yml": "on: push\n"}, branch="x", parent="main")
    await press.hand_in(run, {"a.txt": "a"}, branch=task.branch, on=hidden, base=hidden)
    await publish_due(press.new_publisher())
    await failed(press)
    assert press.at(task.branch) == ""


async def test_a_branch_that_somebody_has_moved_is_not_overwritten(press: Press) -> None:
    await press.work()
    await publish_due(press.new_publisher())
    branch = (await press.office.task()).branch
    first = press.at(branch)
    await press.office.hear("also the docs", addressed=False)
    theirs = press.someone_commits(branch, on=branch)
    await press.work_again({"docs.md": "docs\n"}, on=first)
    await publish_due(press.new_publisher())
    assert press.at(branch) == theirs
    task = await press.office.task()
    assert (task.state, "moved" in task.reason) == (TaskState.FAILED, True)


async def test_a_round_on_top_of_somebodys_commit_is_published(press: Press) -> None:
    await press.work()
    await publish_due(press.new_publisher())
    branch = (await press.office.task()).branch
    await press.office.hear("also the docs", addressed=False)
    press.someone_commits(branch, on=branch)
    run = await press.work_again({"docs.md": "docs\n"}, on=branch)
    head = press.handed_in.hand_in(run).head
    await publish_due(press.new_publisher())
    assert press.at(branch) == head
    assert await press.pulls() == 1


async def test_a_foreign_branch_of_the_same_name_is_not_overwritten(press: Press) -> None:
    await press.work()
    branch = (await press.office.task()).branch
    theirs = press.someone_commits(branch, on="main")
    await publish_due(press.new_publisher())
    await failed(press, "already")
    assert press.at(branch) == theirs


async def test_a_foreign_branch_that_our_work_contains_is_refused_too(press: Press) -> None:
    await press.work()
    branch = (await press.office.task()).branch
    run_git(press.git_dir, "update-ref", f"refs/heads/{branch}", "refs/heads/main")
    await publish_due(press.new_publisher())
    await failed(press, "already")


async def test_a_round_after_the_merge_gets_a_new_branch_and_pull_request(press: Press) -> None:
    forge = press.fake()
    await press.work()
    await publish_due(press.new_publisher())
    branch = (await press.office.task()).branch
    run_git(press.git_dir, "update-ref", "refs/heads/main", f"refs/heads/{branch}")
    run_git(press.git_dir, "update-ref", "-d", f"refs/heads/{branch}")
    forge.close_pull(REPO, 1)
    await press.office.hear("also the docs", addressed=False)
    run = await press.work_again({"docs.md": "docs\n"}, on="main")
    head = press.handed_in.hand_in(run).head
    await publish_due(press.new_publisher())
    assert press.at(branch) == head
    assert (await press.office.task()).pull_url.endswith("/2")


async def test_a_retry_replaces_what_was_pushed_for_a_pull_request_that_was_refused(
    press: Press,
) -> None:
    forge = press.fake()
    publisher = press.new_publisher()
    await press.work()
    branch = (await press.office.task()).branch
    forge.fail_at("open_pull", RejectedError("forge", "no drafts here"))
    await publish_due(publisher)
    await failed(press, "no drafts here")
    await press.office.hear("retry")
    run = await press.work_again({"greet.py": "print('hello!')\n"}, on="main")
    head = press.handed_in.hand_in(run).head
    await publish_due(press.new_publisher())
    assert (await press.office.task()).state is TaskState.SUCCEEDED
    assert press.at(branch) == head


@pytest.mark.parametrize("error", [UnavailableError("forge", "502"), RateLimitedError("forge", 5)])
async def test_a_forge_that_is_away_is_tried_again_later(press: Press, error: Exception) -> None:
    forge = press.fake()
    assert isinstance(error, UnavailableError | RateLimitedError)
    forge.fail(error)
    await press.work()
    publisher = press.new_publisher()
    await publish_due(publisher)
    calls = len(forge.calls)
    await publish_due(publisher)
    assert len(forge.calls) == calls
    assert (await press.office.task()).state is TaskState.PUBLISHING
    press.office.clock.forward(RETRY_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED
    assert len(await press.office.finals()) == 1


async def test_the_card_says_what_a_publication_waits_for(press: Press) -> None:
    press.fake().fail(UnavailableError("forge", "502"))
    await press.work()
    await publish_due(press.new_publisher())
    [card] = await press.office.cards()
    assert "502" in card.doing
    assert await press.office.finals() == []


async def test_git_that_fails_for_no_known_reason_is_not_tried_for_ever(press: Press) -> None:
    press.fake().repos[REPO] = FakeRepo(access=GitAccess(url="file:///nowhere.git"))
    await press.work()
    publisher = press.new_publisher()
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.PUBLISHING
    press.office.clock.forward(PUZZLED_SECONDS)
    await publish_due(publisher)
    await failed(press, "retry")


async def test_a_pull_request_that_was_opened_without_an_answer_is_found(press: Press) -> None:
    forge = press.fake()
    forge.fail_at("open_pull", UnavailableError("forge", "502"), after=True)
    await press.work()
    publisher = press.new_publisher()
    await publish_due(publisher)
    press.office.clock.forward(RETRY_SECONDS)
    await publish_due(publisher)
    assert (await press.office.task()).state is TaskState.SUCCEEDED
    assert len(forge.drafts) == 1


async def test_a_forge_that_stays_away_fails_in_the_end(press: Press) -> None:
    forge = press.fake()
    forge.fail(UnavailableError("forge", "502"), times=2)
    await press.work()
    publisher = press.new_publisher()
    await publish_due(publisher)
    press.office.clock.forward(GIVE_UP_SECONDS)
    await publish_due(publisher)
    await failed(press, "502")


async def test_a_forge_that_is_switched_off_fails_and_is_said(press: Press) -> None:
    press.forges.clear()
    await press.work()
    await publish_due(press.new_publisher())
    await failed(press, "local")


@pytest.mark.parametrize("gone", ["bundle", "json"])
async def test_a_missing_hand_in_fails_and_is_said(press: Press, gone: str) -> None:
    run = await press.work()
    press.handed_in.bundle(run).with_suffix(f".{gone}").unlink()
    await publish_due(press.new_publisher())
    await failed(press, "handed in", "gone")


@pytest.mark.parametrize("content", [b"", b"no bundle", b"# v2 git bundle\n\nPACKxxxx"])
async def test_a_damaged_bundle_fails_and_is_said(press: Press, content: bytes) -> None:
    run = await press.work()
    press.handed_in.bundle(run).write_bytes(content)
    await publish_due(press.new_publisher())
    await failed(press, "bundle")


async def test_a_damaged_note_fails_and_is_said(press: Press) -> None:
    run = await press.work()
    press.handed_in.bundle(run).with_suffix(".json").write_text("")
    await publish_due(press.new_publisher())
    await failed(press, "handed in")


async def test_a_grant_of_another_version_fails_and_is_said(press: Press) -> None:
    await press.work()
    await press.office.put(TaskState.PUBLISHING, grant='{"old": 1}')
    await publish_due(press.new_publisher())
    await failed(press)


async def test_one_bad_publication_holds_up_no_other(press: Press) -> None:
    await press.work()
    await press.office.put(TaskState.PUBLISHING, forge="nowhere")
    await press.office.hear("acme/web another", thread="9.0")
    second, first = await press.office.tasks()
    async with press.office.store.begin() as tx:
        for to, old in (
            (TaskState.STARTING, TaskState.QUEUED),
            (TaskState.RUNNING, TaskState.STARTING),
            (TaskState.PUBLISHING, TaskState.RUNNING),
        ):
            now = press.office.clock.now()
            await tasks.move(tx, second.id, to=to, old=[old], changed_at=now, new_fence=1)
    await publish_due(press.new_publisher())
    states = {task.id: task.state for task in await press.office.tasks()}
    assert states == {first.id: TaskState.FAILED, second.id: TaskState.FAILED}


async def test_what_was_said_while_publishing_becomes_the_next_round(press: Press) -> None:
    await press.work()
    await press.office.hear("also the docs", addressed=False)
    await publish_due(press.new_publisher())
    task = await press.office.task()
    assert (task.state, task.round, task.prompt) == (TaskState.QUEUED, 2, "also the docs")
    [word] = await press.office.finals()
    assert word.outcome == "succeeded"


async def test_the_pull_request_says_who_asked_and_where(press: Press) -> None:
    forge = press.fake()
    await press.work(text="acme/web fix it for @everyone")
    await publish_due(press.new_publisher())
    [draft] = forge.drafts
    assert "Asked by dana" in draft.body
    assert "> acme/web fix it for" in draft.body
    assert "@everyone" not in draft.body
    assert (await press.office.task()).id in draft.body
