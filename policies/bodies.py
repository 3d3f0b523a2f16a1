"""May this body go to a model server? Standard library only: see egress.py.

Nothing here raises, whatever it is given: what cannot be read is refused.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from policies import body_anthropic, body_google, body_openai
from policies.dialects import Asked, Form
from policies.features import FEATURES, Finding
from policies.strictjson import Object, read_object

_FINDINGS: Final[Mapping[Form, Callable[[Object], Iterator[Finding]]]] = MappingProxyType(
    {
        "messages": body_anthropic.findings,
        "responses": body_openai.findings_of_responses,
        "chat": body_openai.findings_of_chat,
        "gemini": body_google.findings,
    }
)
_SHOWN: Final = 80


def body_refusal(
    asked: Asked, body: bytes, *, models: Collection[str], allow: Collection[str]
) -> str | None:
    """Why this body may not go on, or None: it asks one model that is listed, for nothing that is not allowed."""
    found = read_object(body)
    if found is None:
        return "the body is not one JSON object in UTF-8 that names each key once"
    model = model_of(asked, found)
    if model is None:
        return "the body does not name one model"
    if not any(fnmatchcase(model, pattern) for pattern in models):
        return f"the model {model[:_SHOWN]!a} is not offered"
    for finding in _FINDINGS[asked.form](found):
        if not finding.feature or finding.feature not in allow:
            return _reason(finding)
    return None


def model_of(asked: Asked, body: Object) -> str | None:
    """The model that is asked, as the address or the body names it."""
    named = asked.model if asked.model is not None else body.get("model")
    return named if isinstance(named, str) and named else None


def _reason(finding: Finding) -> str:
    if not finding.feature:
        return f"{finding.what} cannot be understood, so it is not passed on"
    known = FEATURES.get(finding.feature)
    why = known or "is not known to stay between the agent and the model"
    return (
        f"{finding.what} {why}: the policy can allow it with `allow: [{_quoted(finding.feature)}]`"
    )


def _quoted(name: str) -> str:
    return f'"{name}"' if ":" in name else name
