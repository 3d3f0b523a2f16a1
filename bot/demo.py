"""The demo: a whole errand on this machine, without any account."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from bot.errors import SetupError
from bot.settings import HttpSettings, Settings
from bot.states import TERMINAL, TaskState
from bot.store import outbox, tasks
from bot.store.engine import Store
from bot.store.rows import TaskRow
from bot.wiring import (
    Services,
    open_console,
    open_local_repo,
    open_redis,
    open_services,
    open_worker,
)
from integrations.channel import Conversation
from runner.git import Git
from runner.images.build import ensure_image

REPO = "acme/greeter"
DATA_DIR = Path(".errand-demo")
LIMIT_SECONDS = 600
SAMPLE = Path(__file__).parent / "sample_repo"
DEFAULT_REQUEST = f"""\
{REPO} The greeting lost its comma, and nobody is greeted when the name is empty. Please fix both:
```sh
# see the tests fail
python3 -B -m unittest -q 2>&1 | tail -n 4
# bring the comma back
sed -i 's/Hello {{who}}/Hello, {{who}}/' greet.py
# greet everybody when there is no name
sed -i 's/name.strip()$/name.strip() or "everybody"/' greet.py
# see the tests pass
python3 -B -m unittest -q
```"""
POLICY = f"""\
version: 1
rules:
  - {{who: ["*"], where: ["console:*"], repos: [{REPO}], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}:
    forge: local
    default_for: ["console:terminal"]
limits: {{wall_minutes: 5, memory: 1GB, cpus: 1, pids: 128, disk: 512MB}}
"""


class Demo:
    """One installation in `.errand-demo/`, with the terminal as its only channel."""

    def __init__(self, *, request: str, chat: bool, keep: bool) -> None:
        self._request = request
        self._chat = chat
        self._keep = keep
        self._out = Console(highlight=False)
        self._settings = Settings(
            data_dir=DATA_DIR,
            policy_file=DATA_DIR / "policy.yml",
            installation="errand-demo",
            redis_url="",
            database_url="",
            http=HttpSettings(port=_free_port(preferred=8400)),
            slack=None,
            github=None,
        )

    async def run(self) -> bool:
        """Ask, watch, show the result; True if it ended in a pull request."""
        await self._prepare()
        settings = self._settings
        console = open_console(_typed_lines() if self._chat else None)
        async with (
            open_redis(settings) as redis_url,
            open_services(settings, redis_url=redis_url, more_channels=[console]) as services,
            asyncio.TaskGroup() as group,
        ):
            processes = [
                group.create_task(services.run()),
                group.create_task(open_worker(settings, redis_url=redis_url).run()),
            ]
            try:
                conversation = await console.say(self._request, services.intake.receive)
                task = await _ended(services.store, conversation)
                await self._show(task)
                if self._keep or self._chat:
                    await self._stay(services)
            finally:
                for process in processes:
                    process.cancel()
        return task.state is TaskState.SUCCEEDED

    async def _prepare(self) -> None:
        files = await asyncio.to_thread(_lay_out)
        await open_local_repo(self._settings, repo=REPO, files=files)
        tag = await asyncio.to_thread(ensure_image, "default", progress=self._line)
        self._line(f"agents run in {tag}, pull requests go to the local forge in {DATA_DIR}/\n")
        self._out.print("you ▸ " + self._request + "\n", markup=False, style="bold")

    def _line(self, text: str) -> None:
        self._out.print(f"· {text}", markup=False, style="dim", soft_wrap=True)

    async def _show(self, task: TaskRow) -> None:
        if not task.pull_url:
            return
        git_dir = DATA_DIR / "forge" / f"{REPO}.git"
        diff = await Git(git_dir).run(
            "diff-tree", "-p", "--no-ext-diff", "--no-textconv", "--merge-base", "main", task.branch
        )
        self._out.print()
        for line in diff.decode(errors="replace").splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "default")
            self._out.print(line, style=colour, markup=False, soft_wrap=True)
        self._out.print()
        self._line(f"branch {task.branch}")
        self._line(f"of {git_dir}")
        self._line(f"page {task.pull_url} (make demo ARGS=--serve keeps it up)")

    async def _stay(self, services: Services) -> None:
        self._line(f"up at {services.settings.public_url}/forge/ until Ctrl-C")
        await asyncio.Event().wait()


async def _ended(store: Store, conversation: Conversation) -> TaskRow:
    """Wait until the task has ended and everything about it was said."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                async with store.read() as conn:
                    task = await tasks.for_conversation(conn, conversation)
                    unsent = await outbox.unsent(conn, task.id if task else "")
                if task and task.state in TERMINAL and not unsent:
                    return task
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise SetupError(f"no end after {LIMIT_SECONDS} s: try `errand demo --verbose`") from error


def _lay_out() -> dict[str, str]:
    """The demo's directory with its policy; the sample repository's files by name."""
    DATA_DIR.mkdir(mode=0o700, exist_ok=True)
    (DATA_DIR / "policy.yml").write_text(POLICY)
    return {
        str(path.relative_to(SAMPLE)): path.read_text()
        for path in sorted(SAMPLE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


async def _typed_lines() -> AsyncIterator[str]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\n")


def _free_port(*, preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SetupError("no free port on 127.0.0.1")
