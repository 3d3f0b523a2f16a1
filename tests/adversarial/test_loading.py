"""What would open too much is not read as less: it is refused."""

from pathlib import Path

import pytest

from policies.errors import PolicyFileError
from policies.load import parse_policy
from runner.docker import spec as specs
from runner.errors import RepoSettingsError, SandboxStartError
from runner.protocol import RunKey
from runner.repo_settings import choose_image, parse
from tests.adversarial import loading
from tests.support.agent_container import PLAIN


@pytest.mark.parametrize("case", loading.POLICIES, ids=lambda case: case.id)
def test_a_policy_that_would_open_too_much_is_refused(case: loading.LoadCase) -> None:
    taken = []
    for text in case.texts:
        try:
            parse_policy(text, path=Path("policy.yml"))
        except PolicyFileError:
            continue
        taken.append(text)
    assert taken == []


@pytest.mark.parametrize("case", loading.SETTINGS, ids=lambda case: case.id)
def test_a_repository_widens_nothing(case: loading.LoadCase) -> None:
    taken = []
    for text in case.texts:
        try:
            choose_image(parse(text.encode()), PLAIN, {"default": "errand:1"})
        except RepoSettingsError:
            continue
        taken.append(text)
    assert taken == []


@pytest.mark.parametrize("task", ["a;b", "$(id)", "../x", "a b", "a\nb", "-rm", "", "x" * 200])
def test_a_task_whose_id_could_be_more_than_a_name_gets_no_container(task: str) -> None:
    with pytest.raises(SandboxStartError):
        specs.container_name(RunKey.model_construct(task=task, fence=1), "agent")
