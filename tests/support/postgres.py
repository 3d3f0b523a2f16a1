"""A PostgreSQL server of our own, for the length of a test session, out of Debian's package."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = Path("/usr/lib/postgresql")
SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """Reached through a unix socket in its own folder, so there is no port to collide on."""

    home: Path
    programs: Path
    user: str

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://{self.user}@/{database}?host={self.home}"

    def create_database(self, *, template: str = "template1") -> str:
        name = f"errand_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        return self.run(
            *("psql", "-h", str(self.home), "-d", database, "-v", "ON_ERROR_STOP=1"),
            *("-X", "-A", "-t", "-c", statement),
        )

    def make(self) -> None:
        data = str(self.home / "data")
        self.run("initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        data = str(self.home / "data")
        settings = f"-k {self.home} -c listen_addresses='' -c fsync=off -c max_connections=200"
        log = str(self.home / "log")
        self.run("pg_ctl", "-D", data, "-w", "-t", str(SECONDS), "-l", log, "-o", settings, "start")

    def runs(self) -> bool:
        return (self.home / "data" / "postmaster.pid").exists()

    def stop(self) -> None:
        """Like a crash: the next start recovers."""
        self.run("pg_ctl", "-D", str(self.home / "data"), "-w", "-m", "immediate", "stop")

    def run(self, program: str, *args: str) -> str:
        command = [str(self.programs / program), *args]
        if os.geteuid() == 0:  # the server refuses to be root
            owner = pwd.getpwnam(self.user)
            ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--init-groups"]
            command = ["setpriv", *ids, "--", *command]
        # Output goes to a file: the server inherits it, and a pipe would stay open as long as it runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        if done.returncode:
            pytest.fail(f"{program} ended with {done.returncode}:\n{text}", pytrace=False)
        return text


def _programs() -> Path:
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail(
            "PostgreSQL's server is not installed: apt-get install postgresql", pytrace=False
        )
    return found[-1].parent


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """One of our own, as long as the block lasts."""
    programs = _programs()
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    home = Path(tempfile.mkdtemp(prefix="errand-pg-"))
    server = PostgresServer(home=home, programs=programs, user=user)
    if os.geteuid() == 0:
        shutil.chown(home, user, user)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            if server.runs():
                server.stop()
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
