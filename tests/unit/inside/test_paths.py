from pathlib import Path

import pytest

from runner.inside.paths import search


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in (
        ("usr/bin/curl", "curl"), ("opt/tool/curl", "another"), ("usr/bin/copy", "curl"), ("usr/bin/same-size", "lurc"),
        ("usr/bin/other", "other"),
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    return tmp_path


def found(root: Path, *names: str) -> list[str]:
    return [path.removeprefix(f"{root}/") for path in search(root, names)["paths"]]


def test_every_file_of_that_name_and_every_copy_is_found(root: Path) -> None:
    assert found(root, "curl") == ["opt/tool/curl", "usr/bin/copy", "usr/bin/curl"]


def test_a_link_of_that_name_leads_to_its_file(root: Path) -> None:
    (root / "usr/bin/fetch").symlink_to("other")
    (root / "usr/bin/broken").symlink_to("nowhere")
    assert found(root, "fetch") == ["usr/bin/other"]
    assert found(root, "broken") == []


def test_a_hard_link_is_the_same_program(root: Path) -> None:
    (root / "usr/bin/hard").hardlink_to(root / "usr/bin/other")
    assert found(root, "hard") == ["usr/bin/hard", "usr/bin/other"]


def test_what_cannot_be_executed_is_no_program(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/curl").write_text("configuration")
    (root / "etc/other").mkdir()
    assert found(root, "curl", "other") == [
        "opt/tool/curl", "usr/bin/copy", "usr/bin/curl", "usr/bin/other",
    ]  # fmt: skip
    assert found(root, "nothing") == []


def test_a_program_that_runs_need_is_named() -> None:
    assert search(Path("/bin"), ["sh"])["needed"] == ["sh"]
