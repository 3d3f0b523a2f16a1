from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.inside.run import Origin, Run, answer_and_close, echo, origin, run_for


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[tuple[Run, Origin]]:
    with origin(echo) as server, run_for(tmp_path, server, mode="splice") as run:
        yield run, server


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[Run, Origin]]:
    with origin(answer_and_close) as server, run_for(tmp_path, server) as run:
        yield run, server
