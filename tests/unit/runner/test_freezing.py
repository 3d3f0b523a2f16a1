"""Containers that are set aside are frozen, though Docker may need more than one try."""

from dataclasses import dataclass, field
from typing import Any, cast

import docker
import pytest
import stamina
from docker.errors import APIError
from requests import Response

from runner.docker.containers import freeze_all


@dataclass
class BusyDocker:
    """Gives up freezing so many times."""

    gives_up: int
    status: int = 500
    paused: bool = False
    renamed: list[str] = field(default_factory=list)

    def inspect_container(self, _name: str) -> dict[str, Any]:
        return {"State": {"Running": True, "Paused": self.paused}}

    def pause(self, _name: str) -> None:
        if self.gives_up:
            self.gives_up -= 1
            response = Response()
            response.status_code = self.status
            raise APIError("unable to freeze", response)
        self.paused = True

    def rename(self, _name: str, name: str) -> None:
        self.renamed.append(name)


def freeze(api: BusyDocker) -> None:
    with stamina.set_testing(True, attempts=5):
        freeze_all(cast("docker.APIClient", api), ["agent"])


def test_a_container_that_would_not_freeze_at_once_is_frozen() -> None:
    api = BusyDocker(gives_up=3)
    freeze(api)
    assert (api.paused, api.renamed) == (True, ["aside-agent"])


@pytest.mark.parametrize(("gives_up", "status"), [(5, 500), (1, 400)])
def test_what_will_not_freeze_is_said(gives_up: int, status: int) -> None:
    api = BusyDocker(gives_up=gives_up, status=status)
    with pytest.raises(APIError):
        freeze(api)
    assert api.renamed == []
