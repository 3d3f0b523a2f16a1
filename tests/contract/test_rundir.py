"""What a worker keeps of a run."""

import gzip
from pathlib import Path

import pytest

from runner.errors import WorkspaceError
from runner.protocol import Finished, RunKey
from runner.rundir import RunDir, known_runs, transcript_line
from runner.sandbox import Line
from tests.support.agent_container import RUN

LINE = Line.model_validate({"n": 1, "at": 2.0, "kind": "ready", "extra": "kept"})


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    files = RunDir(tmp_path, RUN)
    assert files.read("ending", Finished) is None
    files.write("ending", Finished(outcome="done"))
    assert files.read("ending", Finished) == Finished(outcome="done")
    assert (files.path / "ending.json").stat().st_mode & 0o077 == 0
    assert known_runs(tmp_path) == {RUN}


def test_removing_is_safe_twice(tmp_path: Path) -> None:
    files = RunDir(tmp_path, RUN)
    files.write("ending", Finished(outcome="done"))
    files.remove()
    files.remove()
    assert known_runs(tmp_path) == set()


def test_what_is_set_aside_twice_is_kept(tmp_path: Path) -> None:
    files = RunDir(tmp_path / "runs", RUN)
    files.write("ending", Finished(outcome="done"))
    for _ in range(2):
        files.keep_aside()
        files.set_aside()
    kept = tmp_path / "aside" / files.path.name
    assert [path.name for path in kept.iterdir()] == ["ending.json"]
    assert not files.path.exists()


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    files = RunDir(tmp_path, RUN)
    with files.create("transcript") as file:
        file.write(transcript_line("agent", LINE) + b'{"role":"agent","n":2')
    assert list(files.told()) == [("agent", LINE)]
    assert gzip.decompress(files.packed_transcript().read_bytes()).count(b"\n") == 1


def test_without_a_transcript_an_empty_one_is_handed_in(tmp_path: Path) -> None:
    files = RunDir(tmp_path, RUN)
    files.write("ending", Finished(outcome="done"))
    assert list(files.told()) == []
    assert gzip.decompress(files.packed_transcript().read_bytes()) == b""


@pytest.mark.parametrize("task", ["../x", "a/b", "", "a-b"])
def test_a_run_cannot_name_another_directory(tmp_path: Path, task: str) -> None:
    with pytest.raises(WorkspaceError):
        RunDir(tmp_path, RunKey(task=task, fence=1))
