"""`.errand.yml`."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agents.catalogue import CATALOGUE
from runner.errors import RepoSettingsError
from runner.protocol import RepoSettings
from runner.repo_settings import choose_agent, choose_image, parse
from tests.support.agent_container import a_launch


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n"])
def test_nothing_said_means_all_defaults(content: bytes | None) -> None:
    assert parse(content) == RepoSettings()


def test_a_command_may_be_a_text_or_a_list() -> None:
    settings = parse(b"setup: npm ci\nverify: [npm run lint, npm test]\nagent: script\n")
    assert settings.setup == ("npm ci",)
    assert settings.verify == ("npm run lint", "npm test")
    assert settings.agent == "script"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"setpu: x", "setpu"),
        (b"setup: {a: b}", "setup"),
        (b"verify: [1]", "verify"),
        (b"verify: ['']", "verify"),
        (b"agent: [x]", "agent"),
        (b"image: 3", "image"),
        (b"- x", ".errand.yml"),
        (b"a: [", "line"),
        (b"a: &a [x]\nb: *a", "aliases"),
        (b"x" * 70_000, "larger"),
        (b"verify: [" + b"x," * 60 + b"]", "more than"),
        (b"\xff\xfe\x00", ".errand.yml"),
    ],
)
def test_a_mistake_is_named(content: bytes, named: str) -> None:
    with pytest.raises(RepoSettingsError, match=named):
        parse(content)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_raises_anything_undeclared(content: bytes) -> None:
    with contextlib.suppress(RepoSettingsError):
        assert isinstance(parse(content), RepoSettings)


@pytest.mark.parametrize(
    ("asked", "said", "chosen"),
    [
        ("script", "claude-code", "script"),
        (None, "claude-code", "claude-code"),
        (None, None, "script"),
    ],
)
def test_who_asks_chooses_before_the_repository(
    asked: str | None, said: str | None, chosen: str
) -> None:
    launch = a_launch(agent=asked, agents=("script", "claude-code"))
    assert choose_agent(launch, RepoSettings(agent=said), CATALOGUE).name == chosen


def test_a_repository_cannot_widen_what_was_granted() -> None:
    with pytest.raises(RepoSettingsError, match="not allowed"):
        choose_agent(a_launch(agents=("script",)), RepoSettings(agent="claude-code"), CATALOGUE)


def test_an_image_must_be_one_of_the_installation() -> None:
    images = {"default": "errand/agent:1", "node": "errand/node:1"}
    script = CATALOGUE["script"]
    assert choose_image(RepoSettings(), script, images) == "errand/agent:1"
    assert choose_image(RepoSettings(image="node"), script, images) == "errand/node:1"
    with pytest.raises(RepoSettingsError, match="claude-code"):
        choose_image(RepoSettings(), CATALOGUE["claude-code"], images)
