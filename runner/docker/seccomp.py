"""What containers may ask of the kernel: `seccomp.json`, as Docker takes it."""

import functools
import hashlib
import json
from importlib import resources


@functools.cache
def profile() -> str:
    """In one line, without the comments; the same text for the same file, so that it can be compared."""
    text = resources.files("runner.docker").joinpath("seccomp.json").read_text(encoding="utf-8")
    return json.dumps(_bare(json.loads(text)), separators=(",", ":"))


def digest() -> str:
    """Of the profile, in a few letters."""
    return hashlib.sha256(profile().encode()).hexdigest()[:12]


def _bare(value: object) -> object:
    if isinstance(value, dict):
        return {name: _bare(item) for name, item in value.items() if name != "comment"}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value
