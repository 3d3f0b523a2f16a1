"""Whether the container that Docker made is the one that was asked for. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from runner.docker.exposure import exposures
from runner.docker.spec import MADE, Wanted, with_made
from runner.sandbox import Role

_SHOWN: Final = 100


def adopted_mismatches(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """As `mismatches`, of a container that was there already.

    What was made otherwise, by another version or settings, need only be as it was made, and closed where every one is.
    """
    labels, asked = inspect["Config"]["Labels"] or {}, _from_its_image(inspect, wanted)
    if labels.get(MADE) == asked.body["Labels"][MADE]:
        return mismatches(inspect, asked)
    return exposures(inspect, wanted) + _changes(inspect, labels, wanted)


def _from_its_image(inspect: Mapping[str, Any], wanted: Wanted) -> Wanted:
    """Acceptor and gateway keep the image that they were made from: it may have been built anew since."""
    if wanted.role == "agent":
        return wanted
    return replace(wanted, body=with_made({**wanted.body, "Image": inspect["Config"]["Image"]}))


def _changes(inspect: Mapping[str, Any], labels: Mapping[str, str], wanted: Wanted) -> list[str]:
    """Since it was made. The first versions did not write down how they made it."""
    if MADE not in labels:
        return []
    try:
        return mismatches(inspect, replace(wanted, body=json.loads(labels[MADE])))
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"label {MADE} cannot be read"]


def mismatches(inspect: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """Where the container that Docker made differs from what was asked for; empty if nowhere."""
    body = dict(wanted.body)
    host = body.pop("HostConfig")
    found = _differences(inspect["HostConfig"], host, path="HostConfig")
    environment, marks = body.pop("Env"), body.pop("Labels")
    found += _differences(inspect["Config"], body, path="Config")
    found += _environment_differences(inspect["Config"].get("Env") or [], environment, wanted.role)
    found += _differences(inspect["Config"]["Labels"] or {}, marks, path="Config.Labels")
    return found + _mount_differences(inspect.get("Mounts") or [], host["Mounts"])


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], *, path: str) -> list[str]:
    return [
        f"{path}.{name} is {_shown(found.get(name))}, not {_shown(value)}"
        for name, value in wanted.items()
        if not _same(found.get(name), value)
    ]


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]


def _same(found: object, wanted: object) -> bool:
    """Docker leaves out what is empty or false, at any depth."""
    if not wanted:
        return not found
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(_same(found.get(k), wanted.get(k)) for k in wanted.keys() | found.keys())
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return all(_same(f, w) for f, w in zip(found, wanted, strict=True))
    return found == wanted


def _environment_differences(found: Sequence[str], wanted: Sequence[str], role: Role) -> list[str]:
    """An agent's image may bring variables of its own (a JAVA_HOME); ours may not."""
    missing, extra = set(wanted) - set(found), set(found) - set(wanted)
    lines = [f"Config.Env lacks {entry.partition('=')[0]}" for entry in sorted(missing)]
    if role != "agent":
        lines += [f"Config.Env also has {entry.partition('=')[0]}" for entry in sorted(extra)]
    return lines


def _mount_differences(
    found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Catches what an image's VOLUME adds, too. Engines differ in whether they list a tmpfs here."""
    have = {(m["Destination"], m["Type"], not m["RW"]) for m in found if m["Type"] != "tmpfs"}
    want = {(m["Target"], m["Type"], m["ReadOnly"]) for m in wanted}
    return [f"mount {entry} is there, unasked for" for entry in sorted(have - want)] + [
        f"mount {entry} is missing" for entry in sorted(want - have)
    ]
