"""YAML as plain data that knows where each part of it stands.

Less than YAML on purpose: no aliases, no duplicate keys, no tags, nothing but mappings, lists and
plain values. What is left out is where configuration files surprise.
"""

from pathlib import Path

import yaml

from policies.errors import PolicyFileError

Loc = tuple[str | int, ...]

_TEXT = "tag:yaml.org,2002:str"
_SCALARS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")
)
_COLLECTIONS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_MAX_DEPTH = 50
_ALIAS = 'a lone * is an alias in YAML, which is not allowed here: write "*" in quotes'


class Document:
    """Its `data`, and the line of any part. `path` is for errors only."""

    def __init__(self, text: str, *, path: Path) -> None:
        try:
            self._root = _compose(text)
            self.data = None if self._root is None else _plain(self._root)
        except yaml.MarkedYAMLError as error:
            raise PolicyFileError(path, [_sentence(error)]) from error
        except yaml.reader.ReaderError as error:
            problem = f"holds a character that is no text, at position {error.position}"
            raise PolicyFileError(path, [problem]) from error

    def line(self, loc: Loc) -> int:
        """Line of the innermost part that is there."""
        found = 1
        node = self._root
        for step in loc:
            mark, child = _child(node, step)
            if mark is not None:
                found, node = mark.line + 1, child
        return found

    def has(self, loc: Loc) -> bool:
        node = self._root
        for step in loc:
            mark, node = _child(node, step)
            if mark is None:
                return False
        return True


def _compose(text: str) -> yaml.Node | None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            problem = _ALIAS if isinstance(event, yaml.AliasEvent) else "is nested too deeply"
            mark = event.start_mark if isinstance(event.start_mark, yaml.Mark) else None
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
        raise _error("a tag has no meaning here: leave it out", node)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    return _scalar(node)


def _mapping(node: yaml.MappingNode) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
            raise _error("a key must be text: put it in quotes", key)
        if key.value in found:
            raise _error(f"the key {key.value!r} is here twice: take one out", key)
        found[key.value] = _plain(value)
    return found


def _scalar(node: yaml.Node) -> object:
    if node.tag in _SCALARS:
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, LookupError) as error:
            raise _error("a tag does not fit its value: leave the tag out", node) from error
    raise _error("this is neither text nor a number to YAML: put it in quotes", node)


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Mark | None, yaml.Node | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark, item
    return None, None


def _sentence(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = _ALIAS if "alias" in (error.context or "") else error.problem or error.context
    return f"line {mark.line + 1}: {problem}" if mark else f"{problem}"
