import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acp import schema
from pydantic import TypeAdapter

from tests.contract.inside.programs import Program, Record, program


class Client:
    """The other side of the protocol; checks everything it gets against the published schema."""

    def __init__(self, agent: Program, cwd: Path) -> None:
        self.agent = agent
        self._ident = 0
        offered: Record = {"elicitation": {"form": {}}}
        welcome = {"protocolVersion": 1, "clientCapabilities": offered}
        schema.InitializeResponse.model_validate(self.result("initialize", welcome))
        opened = self.result("session/new", {"cwd": str(cwd), "mcpServers": []})
        self.session = schema.NewSessionResponse.model_validate(opened).session_id

    def send(self, method: str, params: Record) -> int:
        self._ident += 1
        self.agent.say({"jsonrpc": "2.0", "id": self._ident, "method": method, "params": params})
        return self._ident

    def reply(self, ident: int) -> Record:
        found: list[Record] = self.agent.wait(
            lambda: [line for line in self.agent.lines if line.get("id") == ident]
        )
        return found[0]

    def result(self, method: str, params: Record) -> Record:
        result: Record = self.reply(self.send(method, params))["result"]
        return result

    def start(self, text: str) -> int:
        block = {"type": "text", "text": text}
        return self.send("session/prompt", {"sessionId": self.session, "prompt": [block]})

    def prompt(self, text: str) -> Record:
        return self.reply(self.start(text))

    def asked(self, count: int = 1) -> Record:
        """The newest question, once there are so many."""
        found: list[Record] = self.agent.wait(lambda: self.questions()[count - 1 :])
        TypeAdapter(schema.CreateElicitationRequest).validate_python(found[0]["params"])
        return found[0]

    def questions(self) -> list[Record]:
        return [
            line for line in list(self.agent.lines) if line.get("method") == "elicitation/create"
        ]

    def answer(self, question: Record, result: Record) -> None:
        self.agent.say({"jsonrpc": "2.0", "id": question["id"], "result": result})

    def cancel(self) -> None:
        params = {"sessionId": self.session}
        self.agent.say({"jsonrpc": "2.0", "method": "session/cancel", "params": params})

    def updates(self, kind: str) -> list[Record]:
        lines = [line for line in list(self.agent.lines) if line.get("method") == "session/update"]
        for line in lines:
            schema.SessionNotification.model_validate(line["params"])
        updates = [line["params"]["update"] for line in lines]
        return [update for update in updates if update["sessionUpdate"] == kind]

    def outputs(self) -> list[str]:
        ends = [u for u in self.updates("tool_call_update") if u["status"] != "in_progress"]
        return ["".join(c["content"]["text"] for c in update["content"]) for update in ends]

    def last_plan(self) -> list[tuple[str, str]]:
        return [(e["content"], e["status"]) for e in self.updates("plan")[-1]["entries"]]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with program("runner.inside.script_agent") as agent:
        yield Client(agent, tmp_path)


def fenced(script: str, language: str = "sh") -> str:
    return f"Please run this:\n\n```{language}\n{script}\n```\nThanks!"


def test_a_recipe_runs_step_by_step(client: Client, tmp_path: Path) -> None:
    reply = client.prompt(fenced("# Make a file\necho hello > a.txt\n\ncat a.txt\nwc -c < a.txt"))
    assert schema.PromptResponse.model_validate(reply["result"]).stop_reason == "end_turn"
    assert (tmp_path / "a.txt").read_text() == "hello\n"
    assert client.outputs() == ["", "hello\n", "6\n"]
    assert client.last_plan() == [
        ("Make a file", "completed"),
        ("cat a.txt", "completed"),
        ("wc -c < a.txt", "completed"),
    ]
    assert [u["content"]["text"] for u in client.updates("agent_message_chunk")] == [
        "Ran 3 commands."
    ]


def test_the_plan_tells_where_it_is(client: Client) -> None:
    client.prompt(fenced("true\ntrue"))
    states = [[entry["status"] for entry in plan["entries"]] for plan in client.updates("plan")]
    assert states == [["in_progress", "pending"], ["completed", "in_progress"], ["completed"] * 2]


def test_commands_share_directory_variables_and_functions(client: Client) -> None:
    script = (
        'mkdir sub\ncd sub\nNAME=dana\ngreet() {\n  echo "hi $1 in ${PWD##*/}"\n}\ngreet "$NAME"'
    )
    assert "result" in client.prompt(fenced(script))
    assert client.outputs()[-1] == "hi dana in sub\n"


def test_a_recipe_asks_and_goes_on_with_the_answer(client: Client) -> None:
    ident = client.start(fenced('choice=$(ask "Which one?" red "dark blue")\necho "it is $choice"'))
    question = client.asked()
    assert question["params"]["message"] == "Which one?"
    fields = question["params"]["requestedSchema"]["properties"]
    assert fields["answer"]["enum"] == ["red", "dark blue"]
    client.answer(question, {"action": "accept", "content": {"answer": "dark blue"}})
    assert "result" in client.reply(ident)
    assert client.outputs()[-1] == "it is dark blue\n"


def test_other_words_than_those_offered_are_an_answer(client: Client) -> None:
    ident = client.start(fenced('ask "Which one?" red blue\nask "And why?"'))
    client.answer(client.asked(), {"action": "accept", "content": {"answer_other": "two\nlines"}})
    why = client.asked(2)
    assert list(why["params"]["requestedSchema"]["properties"]) == ["answer"]
    client.answer(why, {"action": "accept", "content": {"answer": ""}})
    assert "result" in client.reply(ident)
    assert client.outputs() == ["two\nlines\n", "\n"]


@pytest.mark.parametrize(
    "result", [{"action": "decline"}, {"action": "cancel"}, {"action": "accept"}]
)
def test_without_an_answer_the_command_fails(client: Client, result: Record) -> None:
    ident = client.start(fenced('ask "Which one?" red blue'))
    client.answer(client.asked(), result)
    error = client.reply(ident)["error"]
    assert error["data"]["tail"] == "Nobody answered.\n"


def test_a_command_decides_what_becomes_of_an_unanswered_question(client: Client) -> None:
    ident = client.start(fenced('choice=$(ask "Which?" red 2>/dev/null || echo red)\necho $choice'))
    client.answer(client.asked(), {"action": "decline"})
    assert "result" in client.reply(ident)
    assert client.outputs()[-1] == "red\n"


def test_a_cancelled_turn_does_not_wait_for_its_answer(client: Client) -> None:
    ident = client.start(fenced('ask "Which one?" red blue'))
    late = client.asked()
    client.cancel()
    assert client.reply(ident)["result"]["stopReason"] == "cancelled"
    client.answer(late, {"action": "accept", "content": {"answer": "red"}})
    assert client.prompt(fenced("echo on"))["result"]["stopReason"] == "end_turn"


def test_a_client_without_people_is_not_asked(tmp_path: Path) -> None:
    with program("runner.inside.script_agent") as agent:
        client = Client(agent, tmp_path)
        client.result("initialize", {"protocolVersion": 1})
        assert "error" in client.prompt(fenced('ask "Which one?" red'))
        assert client.questions() == []


def test_here_documents_blocks_and_continuations_stay_whole(client: Client) -> None:
    script = (
        "cat <<'EOF'\nfirst\n\n# no comment\nEOF\n"
        "for i in 1 2; do\n  # inside\n  echo $i\ndone\n"
        "echo a \\\n  b\n"
        'echo "two\nlines"\n'
        "true &&\n  echo and"
    )
    assert "result" in client.prompt(fenced(script))
    assert client.outputs() == [
        "first\n\n# no comment\n",
        "1\n2\n",
        "a b\n",
        "two\nlines\n",
        "and\n",
    ]


def test_the_first_failure_ends_it(client: Client, tmp_path: Path) -> None:
    reply = client.prompt(fenced("echo one\necho broken >&2; false\ntouch never"))
    error = reply["error"]
    assert error["message"] == "step 2 of 3 failed with exit status 1: echo broken >&2; false"
    assert error["data"] == {"tail": "broken\n"}
    assert not (tmp_path / "never").exists()
    assert client.updates("tool_call_update")[-1]["status"] == "failed"


@pytest.mark.parametrize(
    ("script", "status"), [("set -e; false", 1), ("exit 3", 3), ("kill -9 $$", 137)]
)
def test_a_shell_that_ends_is_a_failed_step(client: Client, script: str, status: int) -> None:
    error = client.prompt(fenced(f"true\n{script}\ntrue"))["error"]
    assert error["message"] == f"step 2 of 3 failed with exit status {status}: {script}"


def test_a_recipe_may_end_itself(client: Client) -> None:
    assert client.prompt(fenced("exit 0\nfalse"))["result"]["stopReason"] == "end_turn"


def test_only_the_end_of_long_output_is_told(client: Client) -> None:
    client.prompt(fenced("seq 100000; echo the end"))
    assert client.outputs()[0].endswith("100000\nthe end\n")
    assert len(client.outputs()[0]) == 4_000


def test_a_flood_does_not_flood_the_client(client: Client) -> None:
    client.prompt(fenced("yes | head -c 50000000 >&2"))
    assert len(client.updates("tool_call_update")) < 20


def test_background_processes_do_not_hold_up_and_end_with_the_turn(client: Client) -> None:
    client.prompt(fenced("sleep 300 &\necho $!"))
    pid = int(client.outputs()[1])
    client.agent.wait(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_cancel_kills_the_command(client: Client, tmp_path: Path) -> None:
    ident = client.start(fenced("echo begun; sleep 300\ntouch never"))
    client.agent.wait(lambda: [u for u in client.updates("tool_call_update") if u["content"]])
    client.cancel()
    assert client.reply(ident)["result"] == {"stopReason": "cancelled"}
    assert not (tmp_path / "never").exists()


def test_after_a_cancelled_turn_there_can_be_another(client: Client) -> None:
    ident = client.start(fenced("sleep 300"))
    client.agent.wait(lambda: client.updates("tool_call"))
    client.cancel()
    client.reply(ident)
    assert client.prompt(fenced("echo again"))["result"]["stopReason"] == "end_turn"


def test_a_second_prompt_while_one_runs_is_refused(client: Client) -> None:
    ident = client.start(fenced("sleep 300"))
    client.agent.wait(lambda: client.updates("tool_call"))
    assert "a turn is running" in client.prompt(fenced("true"))["error"]["message"]
    client.cancel()
    client.reply(ident)


@pytest.mark.parametrize(
    "asked",
    ["recipe tidy", "Run recipe tidy", "tidy", "Hello there,\nrecipe `tidy`.", "some\ntidy\n"],
)
def test_a_recipe_of_the_repository_is_run_by_name(
    client: Client, tmp_path: Path, asked: str
) -> None:
    (tmp_path / ".errand/recipes").mkdir(parents=True)
    (tmp_path / ".errand/recipes/tidy.sh").write_text("#!/bin/sh\n# Tidy up\necho tidied\n")
    assert "result" in client.prompt(asked)
    assert client.outputs() == ["tidied\n"]
    assert client.last_plan() == [("Tidy up", "completed")]


@pytest.mark.parametrize("language", ["", "sh", "bash", "shell", "console"])
def test_a_fenced_block_of_a_shell_is_a_recipe(client: Client, language: str) -> None:
    prompt = f"First:\n```python\nprint('no')\n```\n{fenced('$ echo yes', language)}"
    assert "result" in client.prompt(prompt)
    assert client.outputs() == ["yes\n"]


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ("please fix the login test", "There is no recipe in this request"),
        ("", "There is no recipe in this request"),
        ("```python\nprint()\n```", "There is no recipe in this request"),
        ("recipe missing", "There is no recipe missing (.errand/recipes/missing.sh)"),
        ("recipe ../../etc/passwd", "There is no recipe in this request"),
        (fenced("# nothing but a comment"), "has no commands"),
        (fenced("echo ok\nif true; then\n  echo"), "no complete shell script"),
        (fenced("cat <<EOF\nnever ends"), "no complete shell script"),
        (fenced("echo a \\"), "no complete shell script"),
        (fenced("echo $(", "bash"), "no complete shell script"),
    ],
)
def test_what_is_no_recipe_is_explained_and_nothing_runs(
    client: Client, asked: str, because: str
) -> None:
    assert because in client.prompt(asked)["error"]["message"]
    assert client.updates("tool_call") == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"id": 99, "method": "session/load", "params": {}}, -32601),
        ({"id": 99, "method": "session/prompt", "params": {"sessionId": "x"}}, -32602),
        ({"id": 99, "method": "session/new", "params": {"cwd": "/nonexistent"}}, -32602),
        ({"id": 99, "method": "session/new", "params": 5}, -32602),
    ],
)
def test_other_requests_get_an_error(client: Client, message: dict[str, Any], code: int) -> None:
    client.agent.say({"jsonrpc": "2.0", **message})
    assert client.reply(99)["error"]["code"] == code


def test_lines_that_are_no_requests_are_survived(client: Client) -> None:
    client.agent.write(b"nonsense\n[]\n{}\n" + b'{"method":"unknown/notification"}\n')
    assert client.prompt(fenced("echo ok"))["result"]["stopReason"] == "end_turn"


def test_it_ends_with_its_client(client: Client) -> None:
    client.start(fenced("sleep 300"))
    client.agent.wait(lambda: client.updates("tool_call"))
    client.agent.close_input()
    assert client.agent.ended() == 0


def test_terminated_it_is_gone(client: Client) -> None:
    client.agent.proc.send_signal(signal.SIGTERM)
    assert client.agent.ended() == -signal.SIGTERM
