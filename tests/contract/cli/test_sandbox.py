"""`errand sandbox run` on a real Docker host."""

import json
import os
import signal
from pathlib import Path

import pytest

from bot.settings import load_settings
from bot.trial import Wanted, launch_for
from runner.engine import Engine
from tests.contract.cli.conftest import Place
from tests.support.docker_host import IMAGE_SECONDS, default_image, labelled
from tests.support.site import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)]

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


@pytest.fixture(autouse=True)
def _image() -> None:
    default_image()


def left(place: Place) -> list[str]:
    engine = Engine()
    try:
        return labelled(engine.api(), f"cli-{place.port}")
    finally:
        engine.close()


def policy(place: Place) -> str:
    path = place.root / "policy.yml"
    path.write_text(POLICY)
    return str(path)


def test_the_commands_streams_and_status_are_the_programs(place: Place) -> None:
    script = "echo out; echo err >&2; id -u; exit 3"
    done = place.errand("sandbox", "run", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n10001\n", "err\n", 3)
    assert left(place) == []


def test_a_program_that_is_not_there_is_told(place: Place) -> None:
    done = place.errand("sandbox", "run", "--", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_a_host_that_no_rule_names_is_denied_and_named(place: Place) -> None:
    command = ("curl", "--silent", "--fail", "http://never.acme.test/")
    done = place.errand("sandbox", "run", "--", *command)
    assert done.returncode == 22
    assert "denied never.acme.test:80" in done.stderr


def test_one_document_tells_all(place: Place) -> None:
    script = "echo out; echo err >&2; curl --silent http://never.acme.test/ >/dev/null; exit 5"
    done = place.errand("sandbox", "run", "--json", "--", "sh", "-c", script)
    found = json.loads(done.stdout)
    assert done.returncode == found["status"] == 5
    assert (found["stdout"], found["stderr"]) == ("out\n", "err\n")
    decision = found["decisions"][0]
    assert (decision["verdict"], decision["host"]) == ("deny", "never.acme.test")


def test_what_the_policy_and_the_operator_name_may_be_reached(place: Place) -> None:
    settings = load_settings({}, policy_file=Path(policy(place)), secrets={"key": "sk-1"})
    launch, left_out = launch_for(settings, Wanted(repo="acme/web", hosts=("more.acme.test",)))
    assert {rule.host for rule in launch.egress} == {"more.acme.test", "registry.acme.test"}
    assert [c.name for c in launch.connections] == ["anthropic"]
    assert left_out == []


def test_a_connection_without_its_secret_is_left_out_and_named(place: Place) -> None:
    settings = {"ERRAND_POLICY_FILE": policy(place)}
    done = place.errand("sandbox", "run", "--repo", "acme/web", "--", "true", **settings)
    assert (done.returncode, done.stdout) == (0, "")
    assert "without the connection anthropic" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--repo", "acme/other"), "no repository acme/other: it has acme/web"),
        (("--host", "203.0.113.1"), "hosts[0].host"),
        (("--profile", "nowhere"), "nowhere"),
        (("--image", "errand-default:never"), "not on this Docker host"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_runs(
    place: Place, words: tuple[str, str], said: str
) -> None:
    settings = {"ERRAND_POLICY_FILE": policy(place)}
    done = place.errand("sandbox", "run", *words, "--", "echo", "ran", **settings)
    assert (done.returncode, done.stdout) == (4, "")
    assert said in done.stderr
    assert left(place) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_leaves_nothing_behind(place: Place, number: signal.Signals) -> None:
    process = place.start("sandbox", "run", "--", "sh", "-c", "echo begun; sleep 600")
    await until(lambda: "begun" in place.log("sandbox"))
    process.send_signal(number)
    process.wait(timeout=20)
    assert left(place) == []
    assert "Traceback" not in place.log("sandbox")


async def test_what_a_killed_one_left_goes_with_the_next(place: Place) -> None:
    process = place.start("sandbox", "run", "--", "sh", "-c", "echo begun; sleep 600")
    await until(lambda: "begun" in place.log("sandbox"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    assert left(place)
    assert place.errand("sandbox", "run", "--", "true").returncode == 0
    assert left(place) == []


def test_a_trial_has_no_file_of_this_machine(place: Place) -> None:
    secret = Path(place.root) / "secret"
    secret.write_text("x")
    done = place.errand("sandbox", "run", "--", "ls", str(place.root))
    assert done.returncode == 2
