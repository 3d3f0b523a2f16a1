"""First process of the agent's container: acts on the worker's lines, and writes down what happens.

It refuses to start anything unless its own containment is what was promised.
"""

import argparse
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from types import FrameType

from runner.inside import execs
from runner.inside.agent import Agent
from runner.inside.children import ENV, Children
from runner.inside.containment import breaches, look
from runner.inside.trust import TRUST_ENV
from runner.inside.wire import FATAL_STATUS, TOTAL_BYTES, Junk, Letter, Transcript, leave, letters

_GRACE_SECONDS = 2.0
_REAP_SECONDS = 1.0
_TERMINATED = 128 + signal.SIGTERM


class Init:
    def __init__(
        self, *, transcript: Transcript, children: Children, env: Mapping[str, str]
    ) -> None:
        self._transcript = transcript
        self._children = children
        self._env = env
        self._agent = Agent(transcript=transcript, children=children, env=env)
        self._execs: queue.SimpleQueue[execs.Exec] = queue.SimpleQueue()
        self._unwanted: set[str] = set()
        """Keys of commands that are to end, now or as soon as they begin."""

    def read(self) -> None:
        """Take lines until standard input ends. Its end stops nothing: work goes on."""
        for found in letters(sys.stdin.buffer):
            if isinstance(found, Junk):
                self._transcript.write("noise", text=f"input: {found.text}")
            else:
                self._transcript.write("received", key=found.key, msg=found.msg)
                self._act(found)

    def _act(self, letter: Letter) -> None:
        if letter.to == "agent":
            self._agent.send(letter.msg)
            return
        match letter.msg.get("do"):
            case "exec":
                self._queue(letter)
            case "start_agent":
                self._agent.start(letter.msg)
            case "end_agent":
                self._agent.end(after_seconds=execs.number(letter.msg.get("seconds"), default=0.0))
            case "end_exec":
                self._unwanted.add(str(letter.msg.get("key")))
            case "note":
                pass
            case _:
                self._transcript.write("noise", text=f"input: {letter.key} asks for nothing known")

    def _queue(self, letter: Letter) -> None:
        command = execs.read_exec(letter.key, letter.msg)
        if command is None:
            tail = "exec is not understood"
            self._transcript.write("exit", key=letter.key, status=execs.NOT_EXECUTABLE, tail=tail)
        else:
            self._execs.put(command)

    def run_execs(self) -> None:
        """Run commands in the order of their arrival, for ever."""
        while True:
            command = self._execs.get()
            ended = execs.run(
                command,
                children=self._children,
                env=self._env,
                emit=partial(self._output, command.key),
                unwanted=partial(self._unwanted.__contains__, command.key),
            )
            self._transcript.write("exit", key=command.key, status=ended.status, tail=ended.tail)

    def _output(self, key: str, stream: str, text: str) -> None:
        more = {"stream": stream} if stream == "stderr" else {}
        self._transcript.write("output", key=key, **more, text=text)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="init")
    parser.add_argument("--unchecked", action="store_true", help="for tests outside a container")
    parser.add_argument("--own-kernel", action="store_true", help="the runtime is gVisor")
    parser.add_argument("--home", default="/home/agent")
    parser.add_argument("--total-bytes", type=int, default=TOTAL_BYTES)
    args = parser.parse_args(argv)
    children = Children()

    def end() -> None:
        children.signal_all(signal.SIGKILL)
        leave()

    transcript = Transcript(sys.stdout.buffer, total_bytes=args.total_bytes, end=end)
    stop = threading.Event()

    def on_terminate(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_terminate)
    found = look()
    transcript.write("ready", containment=found.as_fields())
    wrong = breaches(found, own_kernel=args.own_kernel)
    if wrong and not args.unchecked:
        transcript.fatal("; ".join(wrong))
        sys.exit(FATAL_STATUS)
    # Last on the path: what a user installs comes after what the image has.
    path = f"{ENV['PATH']}:{args.home}/.local/bin"
    env = {**ENV, **TRUST_ENV, "HOME": args.home, "PATH": path}
    init = Init(transcript=transcript, children=children, env=env)
    for work in (init.read, init.run_execs):
        threading.Thread(target=work, daemon=True).start()
    while not stop.wait(_REAP_SECONDS):
        children.reap_orphans()
    children.stop_all(grace_seconds=_GRACE_SECONDS)
    # Threads may sit in a read for ever: leave without them.
    os._exit(_TERMINATED)
