import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import words

REPOS = ("acme/web", "acme/Api.js")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("stop", "stop"),
        (" Stop! ", "stop"),
        ("status", "status"),
        ("help", "help"),
        ("retry.", "retry"),
        ("Thank you!", "thanks"),
        ("thanks, and also bump the version", None),
        ("stop the flaky test from failing", None),
        ("", None),
    ],
)
def test_a_word_counts_only_alone(text: str, word: str | None) -> None:
    assert words.read(text, repos=REPOS).word == word


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("repo=acme/other fix it", "acme/other"),
        ("fix it in acme/web, please", "acme/web"),
        ("ACME/WEB: fix it", "acme/web"),
        ("acme/api.js. Fix it", "acme/Api.js"),
        ("fix and/or remove src/main", None),
        ("see https://example.com/acme/web", None),
        ("do this\n```\ncd acme/web\n```", None),
    ],
)
def test_a_repo_is_an_option_or_a_known_name(text: str, repo: str | None) -> None:
    assert words.read(text, repos=REPOS).repo == repo


def test_options_are_taken_out_of_the_prompt() -> None:
    request = words.read("repo=acme/web agent=script bump the version", repos=REPOS)
    assert (request.agent, request.prompt) == ("script", "bump the version")


def test_a_model_is_an_option() -> None:
    request = words.read("acme/web model=claude-opus-4-5 bump it", repos=REPOS)
    assert (request.model, request.title) == ("claude-opus-4-5", "bump it")
    assert words.read("bump it", repos=REPOS).model is None


def test_code_blocks_reach_the_prompt_unchanged() -> None:
    text = "fix it\n```sh\nX=1 repo=nothing make\n```"
    assert words.read(text, repos=REPOS).prompt == text


def test_the_title_is_the_first_line_outside_code() -> None:
    assert words.title_of("```\nmake\n```\n## Bump it:\nmore") == "Bump it"
    assert words.title_of("```\nmake\n```") == "Run a recipe"
    assert words.title_of("The login fails. Please look, it hurts.") == "The login fails"


def test_a_long_title_ends_with_a_whole_word() -> None:
    title = words.title_of("word " * 30)
    assert title.endswith("word…")
    assert len(title) <= words.TITLE_LENGTH
    assert len(words.title_of("x" * 500)) == words.TITLE_LENGTH


def test_the_title_leaves_the_repo_at_the_beginning_out() -> None:
    assert words.read("acme/web: fix the login", repos=REPOS).title == "fix the login"
    assert words.read("fix acme/web", repos=REPOS).title == "fix acme/web"


@given(st.text())
def test_a_slug_fits_a_branch_name(title: str) -> None:
    slug = words.slug_of(title)
    assert slug
    assert len(slug) <= words.SLUG_LENGTH
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug.startswith("-")
    assert not slug.endswith("-")


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    request = words.read(text, repos=REPOS)
    assert len(request.title) <= words.TITLE_LENGTH


@pytest.mark.parametrize(
    ("text", "verdict", "host", "for_repo"),
    [
        ("allow registry.example.com", "allow", "registry.example.com", False),
        ("Allow registry.example.com.", "allow", "registry.example.com", False),
        ("allow `registry.example.com` once", "allow", "registry.example.com", False),
        ("allow registry.example.com for acme/web", "allow", "registry.example.com", True),
        ("allow registry.example.com for this repo", "allow", "registry.example.com", True),
        ("block registry.example.com", "block", "registry.example.com", False),
        ("keep registry.example.com blocked", "block", "registry.example.com", False),
    ],
)
def test_a_ruling_about_a_host_is_understood(
    text: str, verdict: str, host: str, *, for_repo: bool
) -> None:
    found = words.ruling_in(text)
    assert found is not None
    assert (found.verdict, found.host, found.for_repo) == (verdict, host, for_repo)


@pytest.mark.parametrize(
    "text",
    [
        "allow",
        "block merging",
        "allow registry.example.com and fix the test",
        "please allow registry.example.com",
        "disallow registry.example.com",
    ],
)
def test_what_only_sounds_like_a_ruling_is_none(text: str) -> None:
    assert words.ruling_in(text) is None


@pytest.mark.parametrize(
    ("text", "team"),
    [("create issue", ""), ("Create an issue in eng.", "ENG"), ("create ticket in OPS", "OPS")],
)
def test_a_ticket_is_asked_for_with_or_without_a_team(text: str, team: str) -> None:
    assert words.read(text, repos=()).word == "ticket"
    assert words.team_in(text) == team
