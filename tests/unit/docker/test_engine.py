import inspect

import docker.errors
import pytest
import requests

from runner.engine import mapped
from runner.errors import RunnerError, SandboxAwayError, SandboxLostError, SandboxStartError

FOREIGN = [
    found
    for _, found in inspect.getmembers(docker.errors, inspect.isclass)
    if issubclass(found, docker.errors.DockerException) and found.__module__ == "docker.errors"
]


@pytest.mark.parametrize("error", [SandboxStartError, SandboxLostError])
@pytest.mark.parametrize("foreign", FOREIGN)
def test_every_error_of_docker_becomes_ours(
    foreign: type[docker.errors.DockerException], error: type[RunnerError]
) -> None:
    needed = [
        parameter
        for parameter in list(inspect.signature(foreign.__init__).parameters.values())[1:]
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is parameter.empty
    ]
    with pytest.raises(error), mapped(error):
        raise foreign(*["text"] * len(needed))


@pytest.mark.parametrize(
    "foreign", [requests.ConnectionError("no"), requests.ReadTimeout(), BrokenPipeError(32, "no")]
)
def test_a_broken_connection_becomes_ours(foreign: Exception) -> None:
    with pytest.raises(SandboxLostError), mapped(SandboxLostError):
        raise foreign


@pytest.mark.parametrize(
    ("foreign", "away"),
    [
        (requests.ConnectionError("refused"), True),
        (requests.ReadTimeout(), True),
        (docker.errors.DockerException("no server at that address"), True),
        (docker.errors.APIError("500: it fails"), False),
        (docker.errors.NotFound("no such container"), False),
        (BrokenPipeError(32, "a container's input is closed"), False),
    ],
)
def test_no_answer_is_told_from_an_answer(foreign: Exception, *, away: bool) -> None:
    with pytest.raises(SandboxLostError) as caught, mapped(SandboxLostError):
        raise foreign
    assert isinstance(caught.value, SandboxAwayError) is away


def test_our_own_errors_stay() -> None:
    with pytest.raises(SandboxLostError), mapped(SandboxStartError):
        raise SandboxLostError("gone")


def test_a_missing_image_says_what_to_do() -> None:
    with pytest.raises(SandboxStartError, match="errand image build"), mapped(SandboxStartError):
        raise docker.errors.ImageNotFound("no such image: errand-default:1")


def test_a_missing_image_of_an_agent_is_named_in_what_to_do() -> None:
    with (
        pytest.raises(SandboxStartError, match="`errand image build claude-code`"),
        mapped(SandboxStartError),
    ):
        raise docker.errors.ImageNotFound("No such image: errand-claude-code:0123456789ab")
