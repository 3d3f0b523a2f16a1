"""What lies in the place of a program that policy denies."""

NOTE = """\
#!/bin/sh
echo "${0##*/}: denied by policy (commands.deny). Whoever edits the policy can change that." >&2
exit 126
"""


def main() -> None:
    print(NOTE, end="")  # noqa: T201 - its purpose
