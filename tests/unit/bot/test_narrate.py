from datetime import UTC, datetime

from bot.cli.narrate import WIDTH, narrated
from runner.protocol import Event, EventRecord, RunKey, Said, StepStatus, ToolCall


def _record(seq: int, event: Event, *, fence: int = 1) -> EventRecord:
    return EventRecord(
        run=RunKey(task="t", fence=fence), source="agent", seq=seq,
        at=datetime(2026, 1, 2, 3, 4, seq, tzinfo=UTC), event=event,
    )  # fmt: skip


def _tool(output: str, *, status: StepStatus = StepStatus.RUNNING) -> ToolCall:
    return ToolCall(id="1", title="test", status=status, output=output)


def test_of_what_a_tool_says_while_it_runs_the_last_is_told() -> None:
    said = [_tool("a"), _tool("a\nb"), _tool("a\nb", status=StepStatus.DONE)]
    lines = list(narrated([_record(n, event) for n, event in enumerate(said)]))
    assert lines == [
        "2026-01-02 03:04:01 run 1 tool  id=1 title=test status=running output=… b",
        "2026-01-02 03:04:02 run 1 tool  id=1 title=test status=done output=… b",
    ]


def test_the_same_tool_in_another_run_is_another_line() -> None:
    assert len(list(narrated([_record(1, _tool("a")), _record(2, _tool("a"), fence=2)]))) == 2


def test_a_line_is_a_line_however_long_and_hostile_the_text() -> None:
    [line] = narrated([_record(1, Said(text="\x1b[2Jhi\r\n" + "x" * 1000))])
    assert "\x1b" not in line
    assert "\n" not in line
    assert len(line) < WIDTH + 60
