import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.inside.programs import Program, program

INIT = "runner.inside.init"


@pytest.fixture
def init() -> Iterator[Program]:
    with program(INIT, "--unchecked") as running:
        yield running


def run(init: Program, key: str, argv: list[str], **fields: Any) -> dict[str, Any]:
    init.send(key, {"do": "exec", "argv": argv, "cwd": "/", **fields})
    return init.wait_line("exit", key=key)


def sh(init: Program, key: str, script: str, **fields: Any) -> dict[str, Any]:
    return run(init, key, ["sh", "-c", script], **fields)


def output(init: Program, key: str) -> str:
    return "".join(line["text"] for line in init.kinds("output", key=key))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_first_line_says_what_was_found_about_the_containment(init: Program) -> None:
    ready = init.wait_line("ready")
    assert ready["n"] == 1
    assert ready["containment"]["uid"] == os.getuid()
    assert "lo" in ready["containment"]["interfaces"]


@pytest.mark.skipif(os.getuid() != 0, reason="root is what it refuses")
def test_it_refuses_to_work_when_it_is_not_contained() -> None:
    with program(INIT) as running:
        assert running.ended() == 70
        assert "runs as root" in running.lines[-1]["reason"]
        assert running.lines[-1]["kind"] == "fatal"


def test_numbers_have_no_gap(init: Program) -> None:
    for i in range(5):
        sh(init, f"k{i}", "echo out; echo err >&2")
    assert [line["n"] for line in init.lines] == list(range(1, len(init.lines) + 1))


def test_a_command_runs_with_its_environment_and_directory(init: Program, tmp_path: Path) -> None:
    ended = sh(init, "a", 'echo "$GREETING"; pwd; cat', cwd=str(tmp_path), env={"GREETING": "hi"})
    assert ended["status"] == 0
    assert output(init, "a") == ended["tail"] == f"hi\n{tmp_path}\n"


def test_a_command_that_is_unwanted_is_killed_with_its_children(init: Program) -> None:
    init.send("a", {"do": "exec", "argv": ["sh", "-c", "echo $$; sleep 60 & wait"], "cwd": "/"})
    pid = int(init.wait_line("output", key="a")["text"])
    init.send("x", {"do": "end_exec", "key": "a"})
    assert init.wait_line("exit", key="a")["status"] == 128 + signal.SIGKILL
    assert not alive(pid)
    assert sh(init, "b", "echo next")["status"] == 0


def test_a_command_that_is_unwanted_before_it_began_ends_too(init: Program) -> None:
    init.send("x", {"do": "end_exec", "key": "a"})
    assert run(init, "a", ["sleep", "60"])["status"] == 128 + signal.SIGKILL


def test_an_agent_that_does_not_end_is_killed(init: Program) -> None:
    argv = ["sh", "-c", "trap '' TERM INT; echo up >&2; while :; do sleep 60; done"]
    init.send("a", {"do": "start_agent", "argv": argv, "cwd": "/"})
    init.wait_line("stderr")
    init.send("x", {"do": "end_agent", "seconds": 0.1})
    assert init.wait_line("agent_exit")["status"] == 128 + signal.SIGKILL


def test_standard_error_is_told_apart_where_that_is_asked_for(init: Program) -> None:
    ended = sh(init, "a", "echo out; echo err >&2; exit 3", apart=True)
    said = {(line.get("stream"), line["text"]) for line in init.kinds("output", key="a")}
    assert said == {(None, "out\n"), ("stderr", "err\n")}
    assert ended["status"] == 3
    assert sorted(ended["tail"].split()) == ["err", "out"]


def test_the_environment_is_clean(init: Program) -> None:
    assert "PYTEST" not in run(init, "a", ["env"])["tail"]


def test_the_same_key_acts_once(init: Program, tmp_path: Path) -> None:
    for _ in range(3):
        sh(init, "a", f"echo x >> {tmp_path}/count")
    sh(init, "b", "true")
    assert (tmp_path / "count").read_text() == "x\n"
    assert len(init.kinds("received", key="a")) == 1


def test_received_has_the_message(init: Program) -> None:
    init.send("a", {"do": "note", "steer": "left"})
    assert init.wait_line("received", key="a")["msg"] == {"do": "note", "steer": "left"}


def test_commands_run_one_after_the_other(init: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    init.send("a", {"do": "exec", "argv": ["cat", str(fifo)], "cwd": "/"})
    init.send("b", {"do": "exec", "argv": ["true"], "cwd": "/"})
    init.wait_line("received", key="b")
    assert not init.kinds("exit")
    fifo.write_text("go")
    init.wait_line("exit", key="b")
    assert [line["key"] for line in init.kinds("exit")] == ["a", "b"]


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["/nonexistent/program"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -9 $$"], 137)],
)
def test_a_command_that_fails_to_run_has_a_status(
    init: Program, argv: list[str], status: int
) -> None:
    assert run(init, "a", argv)["status"] == status


@pytest.mark.parametrize("fields", [{"argv": []}, {"argv": "ls"}, {"argv": ["a\0b"]}, {"env": []}])
def test_a_message_that_is_not_understood_ends_as_a_failed_command(
    init: Program, fields: dict[str, Any]
) -> None:
    init.send("a", {"do": "exec", "argv": ["true"], **fields})
    assert init.wait_line("exit", key="a")["status"] == 126


def test_a_time_limit_kills_the_whole_group(init: Program) -> None:
    ended = sh(init, "a", "sleep 600 & echo $!; wait", timeout=0.5)
    assert ended["status"] == 124
    pid = int(ended["tail"].split()[0])
    init.wait(lambda: not alive(pid))


def test_a_silent_command_that_closed_its_output_is_timed_out_too(init: Program) -> None:
    ended = sh(init, "a", "exec >&- 2>&-; sleep 600", timeout=0.5)
    assert ended["status"] == 124


def test_a_process_left_in_the_background_does_not_hold_up(init: Program) -> None:
    ended = sh(init, "a", "sleep 30 & echo started")
    assert (ended["status"], ended["tail"]) == (0, "started\n")


def test_a_flood_is_cut_and_the_tail_kept(init: Program) -> None:
    ended = sh(init, "a", "yes flood | head -c 20000000; echo the end", tail=20)
    assert ended["tail"].endswith("the end\n")
    assert len(output(init, "a")) < 3_000_000
    assert "not recorded" in output(init, "a")
    assert len(init.kinds("output", key="a")) < 400


def test_output_comes_while_the_command_runs(init: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    init.send("a", {"do": "exec", "argv": ["sh", "-c", f"echo early; cat {fifo}"], "cwd": "/"})
    assert init.wait_line("output", key="a")["text"] == "early\n"
    fifo.write_text("late")
    assert init.wait_line("exit", key="a")["tail"] == "early\nlate"


def test_the_end_of_input_ends_nothing(init: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    init.send("a", {"do": "exec", "argv": ["cat", str(fifo)], "cwd": "/"})
    init.wait_line("received", key="a")
    init.close_input()
    fifo.write_text("still here")
    assert init.wait_line("exit", key="a")["tail"] == "still here"
    assert init.proc.poll() is None


def test_half_a_line_of_a_writer_that_died_is_passed_over(init: Program) -> None:
    init.write(b'{"key": "a", "to": "in\n')
    assert sh(init, "b", "echo ok")["tail"] == "ok\n"
    assert init.kinds("noise")


def test_it_ends_at_the_transcript_limit() -> None:
    with program(INIT, "--unchecked", "--total-bytes", "50000") as running:
        running.send("a", {"do": "exec", "argv": ["sh", "-c", "echo $$; yes"], "cwd": "/"})
        assert running.ended() == 70
        assert running.lines[-1]["kind"] == "fatal"
        assert running.lines[-1]["reason"] == "transcript limit"
        pid = int(running.kinds("output")[0]["text"].split()[0])
        running.wait(lambda: not alive(pid))


def test_terminate_ends_the_children(init: Program) -> None:
    script = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
    init.send("a", {"do": "exec", "argv": ["bash", "-c", script], "cwd": "/"})
    pid = int(init.wait_line("output", key="a")["text"])
    init.proc.send_signal(signal.SIGTERM)
    assert init.ended() == 143
    init.wait(lambda: not alive(pid))


ECHO = """
import sys
print("not json", flush=True)
print("to stderr", file=sys.stderr, flush=True)
for line in sys.stdin:
    if "bye" in line:
        sys.exit(3)
    print(line, end="", flush=True)
"""


def start(init: Program, *argv: str, key: str = "start") -> None:
    init.send(key, {"do": "start_agent", "argv": list(argv), "cwd": "/"})


def test_the_agents_streams_become_lines(init: Program) -> None:
    init.send("early", {"id": 1, "method": "initialize"}, to="agent")
    start(init, sys.executable, "-I", "-c", ECHO)
    init.send("late", {"id": 2}, to="agent")
    init.wait_line("agent", msg={"id": 2})
    assert [line["msg"]["id"] for line in init.kinds("agent")] == [1, 2]
    assert init.wait_line("noise")["text"] == "not json"
    assert init.wait_line("stderr")["text"] == "to stderr\n"
    init.send("end", {"bye": True}, to="agent")
    assert init.wait_line("agent_exit")["status"] == 3


def test_an_agent_that_dies_is_seen_even_if_its_children_hold_its_streams(init: Program) -> None:
    start(init, "bash", "-c", "sleep 300 & kill -9 $$")
    assert init.wait_line("agent_exit")["status"] == 137
    start(init, sys.executable, "-I", "-c", ECHO, key="again")
    init.wait_line("noise", text="not json")


def test_an_agent_that_cannot_start_is_an_agent_that_ended(init: Program) -> None:
    start(init, "/nonexistent/agent")
    assert init.wait_line("agent_exit")["status"] == 126


def test_a_second_agent_is_refused_while_one_runs(init: Program) -> None:
    start(init, sys.executable, "-I", "-c", ECHO)
    start(init, sys.executable, "-I", "-c", ECHO, key="second")
    init.wait_line("noise", text="an agent is running already")


def test_the_agents_stderr_is_capped(init: Program) -> None:
    start(init, "bash", "-c", "yes | head -c 5000000 >&2")
    init.wait_line("agent_exit")
    assert sum(len(line["text"]) for line in init.kinds("stderr")) < 1_100_000


def test_no_line_exceeds_its_limit(init: Program) -> None:
    script = "import json; print(json.dumps({'id': 7, 'text': 'x' * 3000000}))"
    start(init, sys.executable, "-I", "-c", script)
    init.wait_line("agent_exit")
    assert init.kinds("agent")[0]["msg"]["id"] == 7
    assert init.raw <= 256 * 1024


def test_orphans_are_reaped() -> None:
    with program("tests.contract.inside.subreaper", "--unchecked") as running:
        ended = sh(running, "a", "(setsid sleep 0.1 >/dev/null 2>&1 & echo $!)")
        pid = int(ended["tail"])
        running.wait(lambda: not Path(f"/proc/{pid}").exists() or None, 10)
