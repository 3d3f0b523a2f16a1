"""Commands that look, or lay a hand on a task: what they print, and where."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text as sql

from bot.cli import COMMANDS
from bot.states import TaskState
from bot.store import approvals, audit, events, inbox, outbox, runs, tasks
from bot.store.engine import Store
from bot.store.rows import ApprovalRow, AuditEntry
from tests.contract.cli.conftest import Place
from tests.support.installation import until
from tests.support.store import NOW, a_message, a_run, a_task, an_event, an_inbound

pytestmark = pytest.mark.timeout(120)
ENDED = {"state": TaskState.FAILED, "fence": 1, "attempts": 1, "ended_at": NOW}
HOSTILE = "\x1b[31mFix\x1b[0m the \u202elogin test, " + "long " * 40


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """The place's database, from outside."""
    place.data.mkdir()
    store = Store(f"sqlite:///{place.data}/errand.db")
    await store.upgrade()
    yield store
    await store.close()


@pytest.fixture
async def tasked(place: Place, store: Store) -> Place:
    """A place with one ended task and one that is queued."""
    async with store.begin() as tx:
        assert await tasks.insert(tx, a_task(1, title=HOSTILE, **ENDED))
        assert await tasks.insert(tx, a_task(2, id="01task000xyz"))
        assert await runs.insert(tx, a_run("01task000001", ended_at=NOW + timedelta(seconds=9)))
        assert await events.insert(tx, an_event("01task000001", 1), now=NOW)
    return place


def test_every_command_has_a_help_and_a_line_in_the_list(place: Place) -> None:
    done = place.errand("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"│ {name} " in done.stdout
    assert "130 Ctrl-C" in " ".join(done.stdout.split())


def test_the_version_is_said(place: Place) -> None:
    assert place.errand("--version").stdout.startswith("errand ")


def test_secrets_are_masked_in_the_settings(place: Place) -> None:
    done = place.errand(
        "config", "show",
        ERRAND_SLACK__BOT_TOKEN="xoxb-secret", ERRAND_SLACK__APP_TOKEN="xapp-secret",
        ERRAND_REDIS_URL="redis://:hunter2@127.0.0.1:1", ERRAND_SECRETS__KEY="sk-secret",
        ERRAND_DATABASE_URL="postgresql://errand:hunter2@127.0.0.1:1/errand",
    )  # fmt: skip
    assert done.returncode == 0
    assert "secret" not in done.stdout.replace("ERRAND_SECRETS__KEY", "")
    assert "hunter2" not in done.stdout
    assert ["ERRAND_HTTP__PORT", str(place.port)] in [
        line.split() for line in done.stdout.splitlines()
    ]


def test_doctor_says_what_is_wrong_and_prints_json_alone(place: Place) -> None:
    done = place.errand("doctor", "serve", "--json")
    found = {finding["part"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert not found["policy"]["ok"]
    assert "ERRAND_POLICY_FILE" in found["policy"]["text"]
    assert "errand db upgrade" in found["database"]["text"]
    assert found["redis"]["ok"]
    assert "docker" not in found


def test_doctor_of_a_worker_asks_for_serve(place: Place) -> None:
    found = place.json("doctor", "work", ERRAND_WORK__DOCKER_HOST="unix:///nonexistent")
    assert [finding["part"] for finding in found] == ["redis", "docker", "serve", "disk"]
    assert "set ERRAND_WORK__SERVE_URL" in found[2]["text"]


def test_tasks_are_listed_a_line_each_without_what_moves_the_cursor(tasked: Place) -> None:
    lines = tasked.errand("task", "list").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["sk000xyz", "queued"],
        ["sk000001", "failed"],
    ]
    assert "Fix the login test" in lines[2]
    live = tasked.errand("task", "list", "--live").stdout.splitlines()
    assert len(live) == 2


def test_a_task_is_found_by_the_end_of_its_id(tasked: Place) -> None:
    shown = tasked.json("task", "show", "000001")
    assert shown["task"]["title"] == HOSTILE
    assert [run["fence"] for run in shown["runs"]] == [1]
    assert "\x1b" not in tasked.errand("task", "show", "000001").stdout
    assert tasked.errand("task", "show", "01task").returncode == 3


def test_logs_are_lines_for_people_and_records_for_programs(tasked: Place) -> None:
    assert tasked.errand("task", "logs", "000001").stdout.endswith("run 1 said  text=said 1\n")
    assert [r["event"]["text"] for r in tasked.json("task", "logs", "000001")] == ["said 1"]
    missing = tasked.errand("task", "logs", "000001", "--transcript")
    assert (missing.returncode, missing.stdout) == (3, "")


def test_what_waits_is_stopped_once_and_what_ended_is_run_again(tasked: Place) -> None:
    assert tasked.errand("task", "stop", "000xyz").returncode == 0
    assert tasked.errand("task", "stop", "000xyz").returncode == 1
    assert tasked.errand("task", "retry", "000001").stdout == "queued again\n"
    assert tasked.errand("task", "retry", "000001").returncode == 1
    states = {task["id"]: task["state"] for task in tasked.json("task", "list")}
    assert states == {"01task000001": "queued", "01task000xyz": "stopped"}
    assert tasked.errand("audit", "verify").stdout.endswith("rows, unbroken\n")


def test_a_policy_is_checked_by_the_setting_where_no_file_is_named(place: Place) -> None:
    (place.root / "p.yml").write_text("version: 1\n")
    assert place.errand("policy", "check", ERRAND_POLICY_FILE="p.yml").stdout.startswith("good: ")
    assert place.errand("policy", "check").returncode == 4


@pytest.fixture
async def talking(tasked: Place, store: Store) -> Place:
    """As `tasked`, with a message that waits and one that is dead."""
    async with store.begin() as tx:
        for n, words in enumerate(("waits", "dead")):
            assert await outbox.put(tx, a_message(str(n), id=words))
        await outbox.dead(tx, "dead", error="fake refused: too_long")
    return tasked


def test_messages_are_listed_and_a_dead_one_is_tried_again(talking: Place) -> None:
    assert [row["id"] for row in talking.json("outbox", "list")] == ["waits"]
    [dead] = talking.json("outbox", "list", "--dead")
    assert (dead["id"], dead["error"]) == ("dead", "fake refused: too_long")
    assert "payload" not in dead
    assert "too_long" in talking.errand("outbox", "list", "--dead").stdout
    assert talking.errand("outbox", "retry", "dead").returncode == 0
    assert {row["id"] for row in talking.json("outbox", "list")} == {"waits", "dead"}
    assert talking.errand("outbox", "retry", "nobody").returncode == 3
    assert talking.errand("audit", "verify").stdout == "1 rows, unbroken\n"


@pytest.fixture
async def deaf(place: Place, store: Store) -> Place:
    """An installation with two deliveries that failed for good; one of them can't be read."""
    async with store.begin() as tx:
        for n in range(2):
            assert await inbox.insert(tx, an_inbound(n, text=HOSTILE), now=NOW)
            await inbox.fail(tx, n + 1, error="AttributeError('a bug')")
            await inbox.finish(tx, n + 1, state="dead")
        await tx.execute(sql("UPDATE inbox SET inbound = '{}' WHERE id = 2"))
    return place


def test_dead_deliveries_are_listed_and_dealt_with_again(deaf: Place) -> None:
    damaged, dead = deaf.json("inbox", "list")
    assert (damaged["id"], damaged["inbound"]) == (2, None)
    assert (dead["id"], dead["tries"], dead["error"]) == (1, 1, "AttributeError('a bug')")
    shown = deaf.errand("inbox", "list").stdout
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3
    assert deaf.errand("inbox", "retry", "1").stdout == "it will be dealt with again\n"
    assert deaf.errand("inbox", "retry", "1").returncode == 3
    assert [row["id"] for row in deaf.json("inbox", "list")] == [2]
    assert deaf.errand("audit", "verify").stdout == "1 rows, unbroken\n"


def test_what_runs_where_is_shown_once_where_nobody_looks(tasked: Place) -> None:
    seen = tasked.json("top")
    assert [(t["task"], t["state"]) for t in seen["tasks"]] == [("01task000xyz", "queued")]
    assert (seen["queued"], seen["hosts"]) == (1, None)
    shown = tasked.errand("top").stdout
    assert "1 under way" in shown
    assert "sk000xyz  queued" in shown
    assert "Redis can't be reached" in shown
    assert shown.endswith("\n")


def test_a_task_that_has_ended_is_watched_to_its_end(tasked: Place) -> None:
    done = tasked.errand("task", "watch", "000001")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("\n")
    lines = tasked.errand("task", "watch", "000001", "--json").stdout.splitlines()
    assert [json.loads(line)["event"]["text"] for line in lines] == ["said 1"]


async def test_a_watched_task_is_told_of_as_it_goes(tasked: Place, store: Store) -> None:
    watching = tasked.start("task", "watch", "000xyz", "--json")

    async def heard(text: str) -> None:
        async def look() -> bool:
            return text in tasked.log("task")

        await until(look, seconds=30, what=f"{text} is told")

    async with store.begin() as tx:
        await events.insert(tx, an_event("01task000xyz", 1), now=NOW)
    await heard("said 1")
    async with store.begin() as tx:
        await events.insert(tx, an_event("01task000xyz", 2), now=NOW)
    await heard("said 2")
    async with store.begin() as tx:
        stopped, queued = TaskState.STOPPED, [TaskState.QUEUED]
        await tasks.move(tx, "01task000xyz", to=stopped, old=queued, changed_at=NOW)
    assert await asyncio.to_thread(watching.wait, 30) == 1
    assert [json.loads(line)["seq"] for line in tasked.log("task").splitlines()] == [1, 2]


def test_a_backup_is_restored_elsewhere(tasked: Place) -> None:
    file = str(tasked.root / "b.tar.gz")
    made = tasked.json("backup", file)
    assert made["live"] == ["01task000xyz"]
    again = tasked.errand("backup", file)
    assert (again.returncode, "name another file" in again.stderr) == (4, True)
    over = tasked.errand("restore", file)
    assert (over.returncode, "there are data already" in over.stderr) == (4, True)
    elsewhere = {"ERRAND_DATA_DIR": str(tasked.root / "e")}
    assert tasked.errand("restore", file, **elsewhere).returncode == 0
    found = {task["id"] for task in tasked.json("task", "list", **elsewhere)}
    assert found == {"01task000001", "01task000xyz"}


def test_a_database_that_its_own_tools_restored_is_noted_as_such(tasked: Place) -> None:
    assert tasked.errand("restored").returncode == 0
    assert tasked.errand("audit", "verify").stdout == "1 rows, unbroken\n"


@pytest.fixture
async def decided(tasked: Place, store: Store) -> Place:
    """A place whose audit record has two decisions of the gateway for one task, and one for another."""
    async with store.begin() as tx:
        for n, (task, verdict) in enumerate(
            [("01task000001", "allow"), ("01task000001", "deny"), ("01task000xyz", "allow")]
        ):
            detail = {"host": f"h{n}.acme.test", "port": 443, "reason": f"because {n}", "rule": ""}
            await audit.append(
                tx,
                AuditEntry(
                    at=NOW,
                    actor="gateway",
                    action="egress",
                    task=task,
                    decision=verdict,
                    detail=detail,
                ),
            )
        await audit.append(tx, AuditEntry(at=NOW, actor="dispatch", action="start"))
    return tasked


@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        ((), [0, 1, 2]),
        (("--denied",), [1]),
        (("01task000001",), [0, 1]),
        (("0xyz", "--denied"), []),
        (("--limit", "1"), [2]),
    ],
)
def test_what_was_reached_is_listed_by_task_and_verdict(
    decided: Place, words: tuple[str, ...], hosts: list[int]
) -> None:
    found = decided.json("egress", "log", *words)
    assert [row["host"] for row in found] == [f"h{n}.acme.test" for n in hosts]


def test_a_decision_is_a_line_for_people(decided: Place) -> None:
    lines = decided.errand("egress", "log", "--denied").stdout.splitlines()
    assert len(lines) == 2
    assert "deny" in lines[1]
    assert "h1.acme.test:443" in lines[1]
    assert "because 1" in lines[1]
    assert decided.errand("egress", "log", "nosuch").returncode == 3


POLICY = """\
version: 1
repos:
  acme/web:
    forge: local
    egress: {hosts: [{host: registry.acme.test}]}
    connections: [anthropic]
connections:
  anthropic: {kind: llm, upstream: "https://llm.acme.test", secret: KEY}
"""


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("https://registry.acme.test/x", 0, "registry.acme.test"),
        ("https://other.acme.test/x", 1, "other.acme.test is not on the list"),
        ("https://registry.acme.test:22/", 1, "22"),
        ("https://registry.acme.test/a/../b", 1, "two ways"),
        ("http://anthropic.llm.internal/v1/messages", 0, "connection:anthropic"),
        ("http://other.llm.internal/v1/messages", 1, "no connection at other"),
        ("ftp://registry.acme.test/", 4, "is no URL"),
        ("https://registry.acme.test:x/", 4, "is no URL"),
    ],
)
def test_a_decision_on_a_url_is_explained(place: Place, url: str, code: int, said: str) -> None:
    (place.root / "policy.yml").write_text(POLICY)
    words = ("policy", "explain", "--repo", "acme/web", "--url", url, "--file", "policy.yml")
    done = place.errand(*words)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_an_explanation_for_programs_is_one_document(place: Place) -> None:
    (place.root / "policy.yml").write_text(POLICY)
    url = "https://registry.acme.test/x"
    words = ("policy", "explain", "--repo", "acme/web", "--url", url, "--file", "policy.yml")
    assert place.json(*words)["verdict"] == "allow"


async def test_what_people_opened_is_listed_and_can_be_closed(tasked: Place, store: Store) -> None:
    assert "nothing was opened" in tasked.errand("egress", "opened").stdout
    row = ApprovalRow(
        id="0f1e2d3c-1111", repo="acme/web", task="", host="registry.example.com",
        ports=("https:443",), methods=("GET", "HEAD"), verdict="allow", by="slack:U0LEE",
        decided_at=NOW, expires_at=None,
    )  # fmt: skip
    async with store.begin() as tx:
        assert await approvals.insert(tx, row)
    [shown] = json.loads(tasked.errand("egress", "opened", "--json").stdout)
    assert (shown["host"], shown["methods"]) == ("registry.example.com", ["GET", "HEAD"])
    assert tasked.errand("egress", "close", "ffff").returncode == 3
    assert "closed to acme/web" in tasked.errand("egress", "close", "0f1e2d3c").stdout
    assert "nothing was opened" in tasked.errand("egress", "opened").stdout
    assert "unbroken" in tasked.errand("audit", "verify").stdout
