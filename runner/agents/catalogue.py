"""The agents that can be named: data, one entry each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

INSIDE: Final = "import sys; sys.path.insert(0, '/opt/errand'); "
"""How a program of ours starts in a container, where Python runs isolated (`-I`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntry:
    """A program that speaks the Agent Client Protocol on its standard streams."""

    name: str
    title: str
    image: str
    """A name that the worker's table of images knows."""
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    with_model: Callable[[str], Mapping[str, str]] | None = None
    """What tells it to use a model, where it uses any."""
    connections: tuple[str, ...] = ()
    """Those of the policy's `connections` that it cannot do without."""
    repairs: bool = False
    """True if a further prompt can make it mend what it did."""
    brief: str = ""
    """House rules that follow the first prompt."""

    def environment(self, model: str) -> dict[str, str]:
        """What it starts with; an empty `model` leaves that to it."""
        if not model or self.with_model is None:
            return dict(self.env)
        return {**self.env, **self.with_model(model)}


_BRIEF = (
    "You work alone in /workspace, a git clone on a branch of its own. Change what the request asks for and no more. "
    "Committing is welcome, pushing is not needed: what is left in the working tree is committed and handed in for "
    "you. Ask a question only where you can't go on without a person's answer, which may take long. End with a short summary "
    "of what you changed and why."
)

DUMMY_KEY: Final = "held-by-the-gateway"
"""What an agent has for a key: the gateway puts the real one in its place."""
_OPENCODE: Final = {
    "model": "anthropic/claude-sonnet-5",
    "small_model": "anthropic/claude-haiku-4-5",
    "provider": {
        "anthropic": {
            "options": {"baseURL": "http://anthropic.llm.internal/v1", "apiKey": DUMMY_KEY}
        }
    },
    "enabled_providers": ["anthropic"],
    # No updates, shared sessions, downloads of language servers: none of it is let through anyhow.
    "autoupdate": False,
    "share": "disabled",
    "lsp": False,
    "formatter": False,
    # The container is the limit.
    "permission": {
        "edit": "allow",
        "bash": "allow",
        "webfetch": "deny",
        "external_directory": "allow",
    },
}

_ENTRIES = (
    AgentEntry(
        name="script",
        title="Script",
        image="default",
        argv=(
            "python3",
            "-I",
            "-c",
            INSIDE + "from runner.inside.script_agent import main; main()",
        ),
    ),
    AgentEntry(
        name="claude-code",
        title="Claude Code",
        image="claude-code",
        argv=("claude-agent-acp",),
        env=MappingProxyType(
            {
                "ANTHROPIC_BASE_URL": "http://anthropic.llm.internal",
                "ANTHROPIC_API_KEY": DUMMY_KEY,
                "CLAUDE_CODE_EXECUTABLE": "/usr/local/bin/claude",
                # No updates, telemetry, error reports or surveys: none of it is let through anyhow.
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_TELEMETRY": "1",
                "DISABLE_ERROR_REPORTING": "1",
                "DISABLE_FEEDBACK_COMMAND": "1",
                # Its plan is what people see on the card.
                "CLAUDE_CODE_ENABLE_TODO_TOOLS": "1",
                # A guess at the next prompt would send the whole conversation once more, for nobody.
                "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false",
                # What is put off until later would never come: the container ends with the work.
                "CLAUDE_CODE_DISABLE_CRON": "1",
            }
        ),
        with_model=lambda model: {"ANTHROPIC_MODEL": model},
        connections=("anthropic",),
        repairs=True,
        brief=_BRIEF,
    ),
    AgentEntry(
        name="opencode",
        title="OpenCode",
        image="opencode",
        argv=("opencode", "acp"),
        env=MappingProxyType(
            {
                "OPENCODE_CONFIG_CONTENT": json.dumps(_OPENCODE),
                "OPENCODE_DISABLE_AUTOUPDATE": "1",
                "OPENCODE_DISABLE_MODELS_FETCH": "1",
                "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            }
        ),
        with_model=lambda model: {
            "OPENCODE_CONFIG_CONTENT": json.dumps({**_OPENCODE, "model": f"anthropic/{model}"})
        },
        connections=("anthropic",),
        repairs=True,
        brief=_BRIEF,
    ),
)

CATALOGUE: Final[Mapping[str, AgentEntry]] = MappingProxyType({e.name: e for e in _ENTRIES})
