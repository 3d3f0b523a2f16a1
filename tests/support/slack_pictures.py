"""Pictures of what Errand posts in Slack, drawn from the very blocks that it sends.

Run: python -m tests.support.slack_pictures
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integrations.channel import Card, Check, Final, Option, Question, Reply, Step, StepState
from integrations.slack.blocks import Block
from integrations.slack.render import render

FOLDER = Path(__file__).parents[2] / "docs" / "channels" / "slack"
WIDTH, LEFT, RIGHT, LINE = 720, 68, 24, 22
NAMES = {"<@U0DANA1234>": "@dana", "<#C0WEB>": "#web"}
INK, GREY, BLUE, RED, GREEN, EDGE = "#1d1c1d", "#616061", "#1264a3", "#c01343", "#007a5a", "#d5d5d5"
SIGNS = {"complete": ("✓", GREEN), "in_progress": ("◐", BLUE), "pending": ("○", GREY), "error": ("✗", RED)}  # fmt: skip
_PART = re.compile(r"(\*[^*\n]+\*|`[^`\n]+`|<[@#][A-Z0-9]+>)")
_STYLES = {"*": "b", "`": "c", "<": "l"}

STEPS = (
    Step(title="reproduce the failure", state=StepState.DONE),
    Step(title="find the cause", state=StepState.DONE),
    Step(title="fix it and add a test", state=StepState.RUNNING),
    Step(title="run the suite", state=StepState.PENDING),
)
PICTURES: Mapping[str, Reply] = {
    "card": Card(
        task="01j", title="Fix the flaky login test", repo="acme/web", agent="claude-code", state="working", live=True,
        repo_reason="the default of slack:C0WEB", steps=STEPS, doing="editing tests/login.spec.ts",
        elapsed_seconds=130, cost_usd=0.31,
    ),
    "question": Question(
        text="The agent wants registry.example.com (GET, port 443), which is not on acme/web's list.\n"
        "Once opens it to this errand only, for acme/web to all of its errands for 30 days. "
        "To be decided by members of maintainers, until this errand ends.",
        options=(
            Option(label="Allow once", words="allow registry.example.com"),
            Option(label="Allow for acme/web", words="allow registry.example.com for acme/web"),
            Option(label="Keep blocked", words="block registry.example.com"),
        ),
    ),
    "final": Final(
        outcome="succeeded", text="The session cookie was read before it was set; the test now waits for it.",
        pull_url="https://github.com/acme/web/pull/481", pull_label="#481", files=2, added=14, removed=3,
        checks=(Check(command="npm test", passed=True),), elapsed_seconds=242, cost_usd=0.58, person="slack:U0DANA1234",
    ),
}  # fmt: skip


@dataclass(slots=True)
class Canvas:
    """Grows downwards."""

    y: float = 0
    parts: list[str] = field(default_factory=list)

    def words(self, text: str, *, at: float = LEFT, size: int = 15, ink: str = INK) -> None:
        """A text in Slack's markup, its lines broken where they are full."""
        for line in text.split("\n"):
            for row in _rows(line, room=(WIDTH - RIGHT - at) / (size * 0.53)):
                self.y += LINE
                spans = "".join(_span(style, part) for style, part in row)
                self.parts.append(f'<text x="{at:g}" y="{self.y:g}" font-size="{size}" fill="{ink}" xml:space="preserve">{spans}</text>')  # fmt: skip

    def buttons(self, elements: Sequence[Mapping[str, Any]]) -> None:
        x = float(LEFT)
        self.y += 10
        for element in elements:
            label, style = str(element["text"]["text"]), element.get("style", "")
            wide = 26 + len(label) * 7.7
            fill, ink = {"primary": (GREEN, "#fff"), "danger": ("#fff", RED)}.get(style, ("#fff", INK))  # fmt: skip
            edge = {"primary": GREEN, "danger": RED}.get(style, "#bbb")
            self.parts.append(
                f'<rect x="{x:g}" y="{self.y:g}" width="{wide:g}" height="30" rx="6" fill="{fill}" stroke="{edge}"/>'
                f'<text x="{x + wide / 2:g}" y="{self.y + 20:g}" font-size="13" font-weight="700" text-anchor="middle" '
                f'fill="{ink}">{html.escape(label)}</text>'
            )
            x += wide + 8
        self.y += 34

    def block(self, block: Block) -> None:
        shown: Any = block
        match block["type"]:
            case "section":
                self.words(str(shown["text"]["text"]))
            case "context":
                for element in shown["elements"]:
                    self.words(str(element["text"]), size=13, ink=GREY)
            case "plan":
                self._plan(str(shown["title"]), shown["tasks"])
            case "actions":
                self.buttons(shown["elements"])
            case "context_actions":
                self.words("👍  👎")
            case kind:
                raise ValueError(kind)

    def _plan(self, title: str, tasks: Sequence[Mapping[str, str]]) -> None:
        top = self.y + 8
        self.y = top + 4
        self.words(f"*{title}*", at=LEFT + 14, size=14)
        for task in tasks:
            sign, ink = SIGNS[task["status"]]
            self.words(sign, at=LEFT + 14, size=14, ink=ink)
            self.y -= LINE
            self.words(task["title"], at=LEFT + 36, size=14)
        self.y += 12
        frame = f'<rect x="{LEFT}" y="{top:g}" width="{WIDTH - LEFT - RIGHT}" height="{self.y - top:g}" rx="8" fill="none" stroke="{EDGE}"/>'
        self.parts.append(frame)


def picture(reply: Reply) -> str:
    """A message as people see it, as SVG."""
    rendered = render(reply, rich=True)
    canvas = Canvas(y=12)
    canvas.words("*Errand*")
    canvas.parts.append(
        f'<rect x="20" y="18" width="36" height="36" rx="8" fill="{INK}"/>'
        '<text x="38" y="42" font-size="20" font-weight="700" text-anchor="middle" fill="#fff">E</text>'
        f'<text x="128" y="{canvas.y:g}" font-size="11" fill="{GREY}">APP</text>'
    )
    for block in rendered.blocks:
        canvas.block(block)
    high = canvas.y + 18
    body = "\n".join(canvas.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{high:g}" viewBox="0 0 {WIDTH} {high:g}" '
        f'font-family="Lato, Helvetica, Arial, sans-serif" role="img">\n'
        f"<title>{html.escape(_plain(rendered.text))}</title>\n"
        "<style>.b{font-weight:700}.c{font-family:monospace;fill:#c01343}.l{fill:#1264a3}</style>\n"
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{high - 1:g}" rx="10" fill="#fff" stroke="{EDGE}"/>\n'
        f"{body}\n</svg>\n"
    )


def _plain(text: str) -> str:
    for mention, name in NAMES.items():
        text = text.replace(mention, name)
    return html.unescape(text)


def _rows(line: str, *, room: float) -> Iterator[list[tuple[str, str]]]:
    """Styled parts, word by word, in rows of about so many letters."""
    row: list[tuple[str, str]] = []
    used = 0
    for part in _PART.split(line):
        style = _STYLES.get(part[:1], "") if _PART.fullmatch(part) else ""
        shown = _plain(part) if style == "l" else _plain(part.strip("*`") if style else part)
        for word in re.findall(r"\S+\s*|\s+", shown):
            if row and used + len(word.rstrip()) > room:
                yield row
                row, used = [], 0
            row.append((style, word))
            used += len(word)
    yield row


def _span(style: str, text: str) -> str:
    kept = html.escape(text)
    return f'<tspan class="{style}">{kept}</tspan>' if style else f"<tspan>{kept}</tspan>"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, reply in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture(reply))


if __name__ == "__main__":
    main()
