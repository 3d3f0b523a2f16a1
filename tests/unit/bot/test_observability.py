"""What must not be in a log is not in it, whatever logs."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from bot.observability import SECRET, set_up_logs

TOKENS = [
    "xoxb-1234567890-abcdefgh",
    "xapp-1-A0ERRAND-1234567890",
    "ghp_" + "a" * 36,
    "github_pat_" + "b" * 40,
    "sk-ant-api03-" + "c" * 24,
    "glpat-" + "d" * 20,
    "Bearer abcdefghijklmnop",
    "basic eC1hY2Nlc3MtdG9rZW46",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


Said = pytest.CaptureFixture[str]


def _json(said: Said) -> dict[str, object]:
    found: dict[str, object] = json.loads(said.readouterr().err)
    return found


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("as_json", [True, False])
def test_what_looks_like_a_credential_is_taken_out(
    capsys: Said, token: str, *, as_json: bool
) -> None:
    set_up_logs(json=as_json)
    structlog.get_logger().warning("it_failed", text=f"said {token} there", deep={"a": [token]})
    written = capsys.readouterr().err
    assert token not in written
    assert written.count(SECRET) == 2


def test_the_password_of_a_url_is_taken_out_and_its_host_is_kept(capsys: Said) -> None:
    set_up_logs(json=True)
    structlog.get_logger().info("it_failed", url="redis://:hunter2@redis.acme.test:6379/0")
    assert _json(capsys)["url"] == f"redis://{SECRET}@redis.acme.test:6379/0"


def test_a_secret_masks_itself(capsys: Said) -> None:
    set_up_logs(json=True)
    structlog.get_logger().info("it_happened", secret=SecretStr("hunter2"))
    assert "hunter2" not in capsys.readouterr().err


def test_a_trace_is_one_line_of_json_without_credentials(capsys: Said) -> None:
    set_up_logs(json=True)
    structlog.get_logger().error("it_broke", exc_info=ValueError(TOKENS[0]))
    trace = str(_json(capsys)["exception"])
    assert "ValueError" in trace
    assert TOKENS[0] not in trace


def test_libraries_speak_in_the_same_form(capsys: Said) -> None:
    set_up_logs(json=True)
    logging.getLogger("library").warning("called %s", "https://me:hunter2@acme.test/")
    said = _json(capsys)
    assert (said["logger"], said["level"]) == ("library", "warning")
    assert "hunter2" not in str(said)


def test_what_is_below_the_level_is_not_said(capsys: Said) -> None:
    set_up_logs(json=True, level="critical")
    structlog.get_logger().error("it_failed")
    logging.getLogger("library").error("it failed")
    assert capsys.readouterr().err == ""
