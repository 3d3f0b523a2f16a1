"""Who may use a database that is a file."""

from pathlib import Path

import pytest

from bot.alone import alone
from bot.errors import SetupError


def test_a_file_has_one_user_at_a_time(tmp_path: Path) -> None:
    database = tmp_path / "data" / "errand.db"
    with alone(database) as first:
        assert first
        with pytest.raises(SetupError, match="another"), alone(database):
            pass
    with alone(database) as again:
        assert again


def test_a_server_may_have_several_users() -> None:
    with alone(None) as first, alone(None) as second:
        assert not first
        assert not second
