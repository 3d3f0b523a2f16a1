"""The demo: a whole errand on this machine, without any account."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from bot.errors import SetupError
from bot.intake import utc_now
from bot.settings import HttpSettings, load_settings
from bot.states import LIVE, TaskState
from bot.store import inbox, outbox, tasks
from bot.store.engine import Store
from bot.store.errors import StoreSchemaError
from bot.typed import typed_messages
from bot.valkey import open_redis
from bot.wiring import (
    open_console,
    open_local_repo,
    open_services,
)
from bot.workshop import open_worker, prepare_images
from integrations.wording import clean
from runner.git import Git

REPO = "acme/greeter"
DATA_DIR = Path(".errand-demo")
LIMIT_SECONDS = 600
LOOK_SECONDS = 0.05
QUIET_LOOKS = 3
"""So many in a row: between two steps a message is nowhere to be seen."""
CHAT_HINT = """\
go on: a line is a message, and so is a block from ``` to ```
`recipe show-tests` runs a recipe; stop, status, retry, help are understood
`/new ...` starts another errand, Ctrl-D ends"""
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
        self.succeeded = True
        """The last errand, if there was one, ended well."""
        self._request = request
        self._chat = chat
        self._keep = keep
        self._begun_at = utc_now()
        self._answered = asyncio.Event()
        self._all_said = asyncio.Event()
        self._out = Console(highlight=False)
        self._settings = load_settings(
            data_dir=DATA_DIR,
            policy_file=DATA_DIR / "policy.yml",
            installation="errand-demo",
            redis_url="",
            database_url="",
            http=HttpSettings(port=_free_port(preferred=8400)),
            slack=None,
            github=None,
        )

    async def run(self) -> None:
        """Ask, watch, show the result."""
        await self._prepare()
        settings, store = self._settings, Store(self._settings.database)
        console = open_console(self._typed(store) if self._chat else None)
        try:
            async with (
                open_redis(settings) as redis_url,
                open_services(settings, redis_url=redis_url, more_channels=[console]) as services,
                open_worker(settings, redis_url=redis_url) as worker,
                asyncio.TaskGroup() as group,
            ):
                processes = [group.create_task(services.run()), group.create_task(worker.run())]
                try:
                    await console.say(self._request, services.intake.receive)
                    await self._watch(store)
                finally:
                    for process in processes:
                        process.cancel()
        except* StoreSchemaError as error:
            raise SetupError(f"{DATA_DIR}/ was made by a newer version: remove it") from error
        finally:
            await store.close()

    async def _prepare(self) -> None:
        await prepare_images(self._settings, progress=self._line)
        await open_local_repo(self._settings, repo=REPO, files=await asyncio.to_thread(_lay_out))
        self._line(f"agents run in containers, pull requests go to the forge in {DATA_DIR}/")
        self._out.print()
        self._echo(self._request)

    async def _watch(self, store: Store) -> None:
        try:
            await _quiet(store)
        except asyncio.CancelledError:
            self._line(
                "interrupted: the agent works on, and the next `errand demo` goes on with it"
            )
            raise
        await self._show(store)
        if self._chat:
            self._out.print()
            self._line(CHAT_HINT)
            self._answered.set()
            await self._all_said.wait()
            await self._show(store)
        if self._keep:
            self._line(f"up at {self._settings.public_url}/forge/ until Ctrl-C")
            await asyncio.Event().wait()

    async def _typed(self, store: Store) -> AsyncIterator[str]:
        """What is typed once the first request is answered."""
        await self._answered.wait()
        async for message in typed_messages():
            if not message.from_terminal:
                self._out.print()
                self._echo(message.text)
            yield message.text
            if not message.from_terminal:
                await _quiet(store)
        await _quiet(store)
        self._all_said.set()

    def _echo(self, text: str) -> None:
        self._out.print(f"you ▸ {text.strip()}", markup=False, style="bold")

    def _line(self, text: str) -> None:
        for line in text.splitlines():
            self._out.print(f"· {line}", markup=False, style="dim", soft_wrap=True)

    async def _show(self, store: Store) -> None:
        """The newest errand's change."""
        async with store.read() as conn:
            task = next(iter(await tasks.listing(conn, limit=1)), None)
        if task is None or task.created_at < self._begun_at:
            return
        self.succeeded = task.state is TaskState.SUCCEEDED
        if not task.pull_url:
            return
        git_dir = DATA_DIR / "forge" / f"{REPO}.git"
        diff = await Git(git_dir).run(
            "diff-tree", "-p", "--no-ext-diff", "--no-textconv", "--merge-base", "main", task.branch
        )
        self._out.print()
        for line in clean(diff.decode(errors="replace")).splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "default")
            self._out.print(line, style=colour, markup=False, soft_wrap=True)
        self._out.print()
        self._line(f"branch {task.branch}")
        self._line(f"of     {git_dir}")
        self._line(f"page   {task.pull_url}{'' if self._keep else ' (--serve keeps it up)'}")


async def _quiet(store: Store) -> None:
    """Wait until everything that was said is answered, and every errand has ended or asks something."""
    looks = 0
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while looks < QUIET_LOOKS:
                looks = 0 if await _busy(store) else looks + 1
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise SetupError(f"no end after {LIMIT_SECONDS} s: try `errand demo --verbose`") from error


async def _busy(store: Store) -> bool:
    async with store.read() as conn:
        newest = await tasks.listing(conn, limit=1)
        unsent = [await outbox.unsent(conn, task.id) for task in newest]
        working = await tasks.listing(conn, states=LIVE - {TaskState.WAITING}, limit=1)
        due = await outbox.next_due(conn)
        return bool(working or any(unsent) or due or await inbox.backlog(conn))


def _lay_out() -> dict[str, str]:
    """The demo's directory with its policy; the sample repository's files by name."""
    DATA_DIR.mkdir(mode=0o700, exist_ok=True)
    (DATA_DIR / "policy.yml").write_text(POLICY)
    return {
        str(path.relative_to(SAMPLE)): path.read_text()
        for path in sorted(SAMPLE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


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
