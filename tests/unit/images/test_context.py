import io
import json
import sys
import tarfile

import pytest

from runner.agents.catalogue import CATALOGUE
from runner.images.base import mirror_of
from runner.images.context import (
    IMAGES,
    PROGRAMS,
    code_hash,
    context,
    current_tags,
    dockerfile,
    image_tag,
    pins,
    programs_tag,
    sources,
)


def test_the_programs_and_what_they_import_are_in_the_image() -> None:
    names = sources().keys()
    assert {"runner/__init__.py", "policies/__init__.py", "runner/inside/init.py"} <= names
    assert {"runner/inside/gateway.py", "policies/egress.py", "policies/publish.py"} <= names


def test_only_the_programs_inside_are_in_the_image() -> None:
    assert all(
        name.startswith(("runner/inside/", "policies/")) or name == "runner/__init__.py"
        for name in sources()
    )
    assert "policies/load.py" not in sources()


def test_the_image_needs_nothing_but_the_standard_library() -> None:
    assert sys.version_info >= (3, 11)
    foreign = [b"import pydantic", b"from pydantic", b"import h11", b"import structlog"]
    assert not [name for name, text in sources().items() if any(word in text for word in foreign)]


def test_the_context_is_the_same_for_the_same_sources() -> None:
    host = {"etc/npmrc": b"registry=https://npm.acme.test/\n"}
    assert context(host) == context(dict(host))
    with tarfile.open(fileobj=io.BytesIO(context(host))) as archive:
        names = archive.getnames()
    assert names[0] == "Dockerfile"
    assert {"host", "host/etc/npmrc", "programs"} <= set(names)
    assert "opt/errand/runner/inside/init.py" in names


def test_the_tag_is_a_hash_of_what_is_built() -> None:
    assert len(code_hash()) == 12
    assert image_tag("default") == f"errand-default:{code_hash()}"


def test_an_image_with_programs_of_its_own_is_named_by_them_too() -> None:
    assert image_tag("claude-code") != f"errand-claude-code:{code_hash()}"
    assert current_tags() == {
        image_tag("default"), image_tag("claude-code"), programs_tag("claude-code"),
        image_tag("node"), programs_tag("node"),
        image_tag("opencode"), programs_tag("opencode"),
    }  # fmt: skip


def test_every_agent_has_an_image() -> None:
    assert {agent.image for agent in CATALOGUE.values()} <= set(IMAGES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_an_agent_are_pinned_by_their_content(name: str) -> None:
    package, lock = (json.loads(content) for content in pins(name).values())
    assert all(version[0].isdigit() for version in package.get("dependencies", {}).values())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert all("integrity" in entry and "resolved" not in entry for entry in packages.values())


def test_claude_code_is_the_release_that_its_sdk_was_made_with() -> None:
    _, lock = (json.loads(content) for content in pins("claude-code").values())
    scope = lock["packages"]
    cli = scope["node_modules/@anthropic-ai/claude-code"]["version"]
    sdk = scope["node_modules/@anthropic-ai/claude-agent-sdk"]["version"]
    assert cli.rpartition(".")[2] == sdk.rpartition(".")[2]


def test_what_is_built_is_a_target_of_the_dockerfile() -> None:
    targets = {line.split()[-1] for line in dockerfile().decode().splitlines() if " AS " in line}
    assert targets == {"default-tools", "programs", "agent"}


def test_the_mirror_is_the_one_that_apt_uses_for_the_release() -> None:
    listing = (
        "http://security.acme.test/debian bookworm-security main Debian\n"
        "http://mirror.acme.test/debian bookworm contrib Debian\n"
        "http://mirror.acme.test/debian bookworm main Debian\n"
    )
    assert mirror_of(listing) == "http://mirror.acme.test/debian"


def test_a_later_debian_has_the_release_in_the_same_archive_and_a_derivative_has_not() -> None:
    assert mirror_of("http://a.test/ubuntu noble main Ubuntu\n") is None
    listing = (
        "http://a.test/sec trixie-security main Debian\nhttp://a.test/debian trixie main Debian\n"
    )
    assert mirror_of(listing) == "http://a.test/debian"


def test_no_listing_is_no_mirror() -> None:
    assert mirror_of("") is None
    assert mirror_of("\nodd line\n") is None
