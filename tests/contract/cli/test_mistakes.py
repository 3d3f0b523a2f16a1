"""What an operator can do wrong: a sentence that names it and says what to do, an exit code, no traceback."""

import socket
from pathlib import Path

import pytest

from bot.store.engine import Store
from tests.contract.cli.conftest import Place

pytestmark = pytest.mark.timeout(120)
NOWHERE = "127.0.0.1:1"


def _says(place: Place, *words: str, code: int, sentence: str, **settings: str) -> None:
    done = place.errand(*words, **settings)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert sentence in lines[0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ERRAND_DATADIR": "x"}, "no setting ERRAND_DATADIR: did you mean ERRAND_DATA_DIR?"),
        ({"ERRAND_HTTP__PORT": "http"}, "ERRAND_HTTP__PORT: input should be a valid integer"),
        ({"ERRAND_HTTP": "8400"}, "ERRAND_HTTP: set its parts, like ERRAND_HTTP__PORT=8400"),
        ({"ERRAND_HTTP": "port"}, "set its parts, like ERRAND_HTTP__PORT=8400"),
        ({"ERRAND_REDIS_URL": "localhost"}, "ERRAND_REDIS_URL: write redis://HOST:PORT"),
        ({"ERRAND_SLACK__APP_TOKEN": "xapp-1"}, "ERRAND_SLACK: set bot_token (one workspace)"),
    ],
)
def test_a_wrong_setting_is_named(place: Place, settings: dict[str, str], sentence: str) -> None:
    _says(place, "config", "show", code=4, sentence=sentence, **settings)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ERRAND_HTTP__PROT=1", "did you mean ERRAND_HTTP__PORT?"),
        ("GREETING=hello", ".env has GREETING, which is none of our settings"),
    ],
)
def test_a_wrong_line_in_the_env_file_is_named(place: Place, line: str, sentence: str) -> None:
    (place.root / ".env").write_text(f"{line}\n")
    _says(place, "config", "show", code=4, sentence=sentence)


def test_an_empty_value_is_as_good_as_none(place: Place) -> None:
    shown = place.json("config", "show", ERRAND_POLICY_FILE="", ERRAND_SLACK__BOT_TOKEN="")
    assert (shown["policy_file"], shown["slack"]) == (None, None)


def test_a_policy_file_that_is_not_there_is_named(place: Place) -> None:
    _says(
        place, "serve", code=4, sentence="none.yml: there is no such file",
        ERRAND_POLICY_FILE="none.yml",
    )  # fmt: skip


def test_a_broken_policy_is_told_with_its_line(place: Place) -> None:
    (place.root / "p.yml").write_text("version: 1\nrules:\n  - {who: x}\n")
    _says(place, "policy", "check", "p.yml", code=4, sentence="p.yml: line 3, rules[0].who")


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        _says(
            place, "serve", code=4,
            sentence=f"127.0.0.1:{place.port} (Address already in use): set another ERRAND_HTTP__PORT",
        )  # fmt: skip


def test_a_database_that_is_not_there_is_not_made_by_looking(place: Place) -> None:
    _says(place, "task", "list", code=4, sentence="there is no database at")
    assert not place.data.exists()


def test_a_database_that_does_not_answer_is_named_without_its_password(place: Place) -> None:
    url = f"postgresql://errand:hunter2@{NOWHERE}/errand"
    done = place.errand("task", "list", ERRAND_DATABASE_URL=url)
    assert done.returncode == 4
    assert done.stderr.startswith("error: the database is not available: ")
    assert "hunter2" not in done.stderr


async def test_an_empty_database_is_told_from_one_of_a_newer_version(place: Place) -> None:
    place.data.mkdir()
    (place.data / "errand.db").touch()
    _says(place, "task", "list", code=4, sentence="it is empty: run `errand db upgrade`")
    await _claim_a_newer_version(place.data / "errand.db")
    _says(place, "task", "list", code=4, sentence="newer version's than")
    _says(place, "db", "upgrade", code=4, sentence="was it used by a newer version?")


async def _claim_a_newer_version(path: Path) -> None:
    store = Store(f"sqlite:///{path}")
    await store.upgrade()
    async with store.begin() as tx:
        await tx.exec_driver_sql("UPDATE alembic_version SET version_num = 'r9999'")
    await store.close()


def test_a_redis_that_is_dead_is_named(place: Place) -> None:
    _says(
        place, "serve", code=4, sentence="start it, or mend ERRAND_REDIS_URL",
        ERRAND_REDIS_URL=f"redis://:hunter2@{NOWHERE}",
    )  # fmt: skip


@pytest.mark.parametrize("words", [("up",), ("work",), ("demo",), ("image", "list")])
def test_a_docker_that_does_not_answer_is_told_with_what_to_do(
    place: Place, words: tuple[str, ...]
) -> None:
    _says(
        place, *words, code=4, sentence="(No such file or directory): install or start it",
        ERRAND_WORK__DOCKER_HOST="unix:///nonexistent",
    )  # fmt: skip


def test_a_data_directory_that_cannot_be_made_is_named(place: Place) -> None:
    _says(place, "serve", code=4, sentence="set ERRAND_DATA_DIR", ERRAND_DATA_DIR="/proc/errand")


def test_what_does_not_exist_is_code_3(place: Place) -> None:
    assert place.errand("db", "upgrade").returncode == 0
    _says(place, "task", "show", "nope", code=3, sentence="no task 'nope': see `errand task list`")
    _says(place, "image", "build", "nope", code=3, sentence="there is no image 'nope', but default")


@pytest.mark.parametrize("words", [("nonsense",), ("task", "show"), ("task", "list", "--limit=0")])
def test_wrong_usage_is_code_2(place: Place, words: tuple[str, ...]) -> None:
    assert place.errand(*words).returncode == 2
