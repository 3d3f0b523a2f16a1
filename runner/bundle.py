"""The text at the head of a git bundle (version 2); the pack that follows it is git's to read."""

import re
from typing import BinaryIO

_SIGNATURE = b"# v2 git bundle\n"
_MAX_LINES = 1000
_MAX_LINE = 4096
_REF = re.compile(rb"([0-9a-f]{40}) (refs/[\x21-\x7e]+|HEAD)\n")
_PREREQUISITE = re.compile(rb"-[0-9a-f]{40}( .*)?\n")


def read_header(file: BinaryIO) -> tuple[dict[str, str], int]:
    """The refs by name, and where the pack begins. Raises ValueError for anything else than a bundle."""
    if file.readline(_MAX_LINE) != _SIGNATURE:
        raise ValueError("no version 2 bundle")
    refs: dict[str, str] = {}
    for _ in range(_MAX_LINES):
        line = file.readline(_MAX_LINE)
        if line == b"\n":
            return refs, file.tell()
        if found := _REF.fullmatch(line):
            refs[found[2].decode()] = found[1].decode()
        elif not _PREREQUISITE.fullmatch(line):
            raise ValueError("a line that is neither a ref nor a prerequisite")
    raise ValueError("too many lines")
