"""What may be asked of a model server, before its body is looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.dialects import DIALECTS, Asked, Dialect, asked_for, refusal_body


def asked(dialect: Dialect, method: str, target: str) -> Asked:
    found = asked_for(dialect, method=method, target=target)
    assert isinstance(found, Asked), found
    return found


@pytest.mark.parametrize(
    ("dialect", "method", "target", "form", "kind"),
    [
        ("anthropic", "POST", "/v1/messages", "messages", "generate"),
        ("anthropic", "POST", "/v1/messages?beta=true", "messages", "generate"),
        ("anthropic", "POST", "/v1/messages/count_tokens?beta=true", "messages", "count"),
        ("anthropic", "GET", "/v1/models?limit=1000", "messages", "list"),
        ("anthropic", "GET", "/v1/models/claude-opus-5-5", "messages", "list"),
        ("openai", "POST", "/v1/responses", "responses", "generate"),
        ("openai", "POST", "/v1/chat/completions", "chat", "generate"),
        ("openai", "GET", "/v1/models", "chat", "list"),
        ("google", "POST", "/v1beta/models/gemini-3.1-pro:generateContent", "gemini", "generate"),
        ("google", "POST", "/v1/models/gemini-3.1-pro:streamGenerateContent?alt=sse", "gemini", "generate"),
        ("google", "POST", "/v1beta/models/gemini-3.1-pro:countTokens", "gemini", "count"),
        ("google", "GET", "/v1beta/models?pageSize=50", "gemini", "list"),
    ],
)  # fmt: skip
def test_what_is_offered(dialect: Dialect, method: str, target: str, form: str, kind: str) -> None:
    found = asked(dialect, method, target)
    assert (found.form, found.kind, found.target) == (form, kind, target)


def test_google_names_the_model_in_the_address() -> None:
    target = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
    assert asked("google", "POST", target).model == "gemini-x"
    assert asked("openai", "POST", "/v1/responses").model is None


def test_a_credential_in_the_query_goes_no_further() -> None:
    target = "/v1beta/models/g:streamGenerateContent?key=sk-client&alt=sse&access_token=x"
    kept = "/v1beta/models/g:streamGenerateContent?alt=sse"
    assert asked("google", "POST", target).target == kept
    target = "/v1beta/models/g:generateContent?key=sk-client"
    assert asked("google", "POST", target).target == "/v1beta/models/g:generateContent"


@pytest.mark.parametrize(
    ("dialect", "method", "target"),
    [
        ("anthropic", "GET", "/v1/messages"), ("anthropic", "POST", "/v1/files"), ("anthropic", "POST", "/v1/messages/batches"),
        ("anthropic", "POST", "/v1/messages/"), ("anthropic", "POST", "//v1/messages"), ("anthropic", "POST", "/x/../v1/messages"),
        ("anthropic", "POST", "/v1/Messages"), ("anthropic", "POST", "/v1/messages;a"), ("anthropic", "POST", "/v1/%6dessages"),
        ("anthropic", "GET", "/"), ("anthropic", "DELETE", "/v1/messages/count_tokens"), ("anthropic", "POST", "/v1/messages\n"),
        ("anthropic", "POST", "/v1/messages?beta=true&beta=false"), ("anthropic", "POST", "/v1/messages?x=1"),
        ("anthropic", "POST", "/v1/messages?beta=%0a"), ("anthropic", "POST", "/v1/organizations/x/api_keys"),
        ("anthropic", "DELETE", "/v1/models/claude"), ("anthropic", "GET", "/v1/models/a/b"),
        ("openai", "GET", "/v1/responses/resp_1"), ("openai", "POST", "/v1/files"), ("openai", "POST", "/v1/responses?x=1"),
        ("openai", "POST", "/v1/embeddings"), ("openai", "POST", "/v1/batches"), ("openai", "DELETE", "/v1/models/ft-x"),
        ("google", "POST", "/v1beta/models/g:streamGenerateContent"), ("google", "POST", "/v1beta/models/g:streamGenerateContent?alt=json"),
        ("google", "POST", "/v1beta/models/g:generateContent?fields=candidates"), ("google", "POST", "/v1beta/cachedContents"),
        ("google", "POST", "/upload/v1beta/files"), ("google", "POST", "/v1beta/models/a/b:generateContent"),
        ("google", "POST", "/v1beta/models/../files:generateContent"), ("google", "POST", "/v1beta/models/g:embedContent"),
        ("google", "POST", "/v1beta/models/g:countTokens:generateContent"), ("google", "POST", "/v1beta/tunedModels/g:generateContent"),
    ],
)  # fmt: skip
def test_nothing_else_is_offered(dialect: Dialect, method: str, target: str) -> None:
    assert isinstance(asked_for(dialect, method=method, target=target), str)


@given(dialect=st.sampled_from(DIALECTS), method=st.text(), target=st.text())
def test_nothing_makes_it_raise(dialect: Dialect, method: str, target: str) -> None:
    asked_for(dialect, method=method, target=target)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [403, 429])
def test_a_refusal_has_the_shape_of_the_provider(dialect: Dialect, status: int) -> None:
    error = refusal_body(dialect, status=status, message="why")["error"]
    assert isinstance(error, dict)
    assert error["message"] == "why"
