"""The subset of Linear's schema, and how it and our documents compare with the official one."""

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldDefinitionNode,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    InputValueDefinitionNode,
    Node,
    TypeDefinitionNode,
    build_ast_schema,
    concat_ast,
    parse,
    print_ast,
    validate,
)
from graphql.language import TypeExtensionNode
from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_snake

_HERE: Final = Path(__file__).parent
VARIABLE: Final = "LINEAR_SCHEMA"
"""Without our prefix: under it, the settings know every name."""


def official_path() -> str | None:
    """Where the official schema is, if somebody has it at hand."""
    return os.environ.get(VARIABLE) or None


@cache
def official() -> DocumentNode:
    path = official_path()
    if path is None:
        raise LookupError(f"set {VARIABLE} to the path of Linear's schema.graphql")
    return parse(Path(path).read_text(), no_location=True)


@cache
def part(name: str) -> DocumentNode:
    """One of the files beside this module: schema, newer, webhooks."""
    return parse((_HERE / f"{name}.graphql").read_text(), no_location=True)


@cache
def subset() -> GraphQLSchema:
    """What the stand-in executes. Arguments and input fields arrive in snake_case."""
    schema = build_ast_schema(concat_ast([part("schema"), part("newer")]))
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            for name, given in kind.fields.items():
                given.out_name = to_snake(name)
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for answered in kind.fields.values():
                for name, argument in answered.args.items():
                    argument.out_name = to_snake(name)
        elif isinstance(kind, GraphQLScalarType):
            _teach(kind)
    return schema


@cache
def whole() -> GraphQLSchema:
    """The official schema, with what a newer SDK has beyond it."""
    return build_ast_schema(concat_ast([official(), part("newer")]))


def problems(document: str) -> list[str]:
    """What is wrong with one of our documents; also by the official schema, where it is at hand."""
    schemas = [subset(), whole()] if official_path() else [subset()]
    parsed = parse(document)
    return [error.message for schema in schemas for error in validate(schema, parsed)]


def documents() -> dict[str, str]:
    """Ours: the constants of integrations/linear/documents.py, each one GraphQL document."""
    if importlib.util.find_spec("integrations.linear") is None:
        return {}
    module = importlib.import_module("integrations.linear.documents")
    return {name: text for name, text in vars(module).items() if name.isupper()}


# --- scalars


def _teach(scalar: GraphQLScalarType) -> None:
    readers = {
        "DateTime": _moment,
        "DateTimeOrDuration": _moment_or_duration,
        "JSONObject": _structure,
    }
    writers = {"DateTime": _written, "TimelessDate": _written}
    read, write = readers.get(scalar.name), writers.get(scalar.name)
    if read is not None:
        scalar.coerce_input_value = read
    if write is not None:
        scalar.coerce_output_value = write


def _moment(value: object) -> datetime:
    try:
        return TypeAdapter(datetime).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"not a DateTime: {value}") from error


def _moment_or_duration(value: object) -> datetime | timedelta:
    """A duration is counted from now; `-P1D` is yesterday."""
    if isinstance(value, str) and "P" in value:
        return TypeAdapter(timedelta).validate_python(value)
    return _moment(value)


def _structure(value: object) -> object:
    """Objects. Lists too: the documents send a plan as one."""
    if not isinstance(value, Mapping | list):
        raise ValueError(f"JSONObject cannot represent {value!r}")  # noqa: TRY004 - graphql wants it
    return value


def _written(value: date | datetime) -> str:
    return moment(value) if isinstance(value, datetime) else value.isoformat()


def moment(value: datetime) -> str:
    """As Linear writes it: UTC, milliseconds."""
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


# --- comparison


def differences(ours: DocumentNode, theirs: DocumentNode) -> list[str]:
    """Where a subset says something that the whole does not."""
    known = {d.name.value: d for d in theirs.definitions if isinstance(d, TypeDefinitionNode)}
    found: list[str] = []
    for definition in ours.definitions:
        assert isinstance(definition, TypeDefinitionNode)
        name = definition.name.value
        if (same := known.get(name)) is None or same.kind != definition.kind:
            found.append(f"{name}: not there as {definition.kind}")
        else:
            found.extend(f"{name}{what}" for what in _compared(definition, same))
    return found


def additions(ours: DocumentNode, theirs: DocumentNode) -> list[str]:
    """What extensions add that the whole has by itself."""
    known = {d.name.value: d for d in theirs.definitions if isinstance(d, TypeDefinitionNode)}
    return [
        f"{extension.name.value}.{name}"
        for extension in ours.definitions
        if isinstance(extension, TypeExtensionNode)
        for name in _members(extension)
        if name in _members(known[extension.name.value])
    ]


def _members(definition: Node) -> dict[str, Node]:
    """Fields, values of an enum, types of a union."""
    lists = (getattr(definition, kind, None) for kind in ("fields", "values", "types"))
    return {member.name.value: member for members in lists for member in members or ()}


def _compared(ours: Node, theirs: Node) -> Iterator[str]:
    there = _members(theirs)
    for name, member in _members(ours).items():
        if name not in there:
            yield f".{name}: not there"
        else:
            yield from (f".{name}{what}" for what in _signature(member, there[name]))
    if isinstance(ours, TypeDefinitionNode) and ours.kind == "input_object_type_definition":
        yield from _left_out(_members(ours), there)
    mine, given = (_interfaces(definition) for definition in (ours, theirs))
    yield from (f": does not implement {name}" for name in mine - given)


def _signature(ours: Node, theirs: Node) -> Iterator[str]:
    if _type(ours) != _type(theirs):
        yield f": {_type(ours)} is {_type(theirs)} there"
    if isinstance(ours, FieldDefinitionNode) and isinstance(theirs, FieldDefinitionNode):
        mine, given = ({a.name.value: a for a in f.arguments or ()} for f in (ours, theirs))
        for name, argument in mine.items():
            if name not in given or _type(argument) != _type(given[name]):
                yield f"({name}): {_type(argument)} is not there"
        yield from _left_out(mine, given)


def _left_out(ours: Mapping[str, Node], theirs: Mapping[str, Node]) -> Iterator[str]:
    for name in theirs.keys() - ours.keys():
        if _type(theirs[name]).endswith("!"):
            yield f"({name}): required there, left out here"


def _type(node: Node) -> str:
    """With its default: both belong to what a caller must know."""
    written: Any = getattr(node, "type", None)
    default = node.default_value if isinstance(node, InputValueDefinitionNode) else None
    return (print_ast(written) if written else "") + (f" = {print_ast(default)}" if default else "")


def _interfaces(node: Node) -> set[str]:
    return {interface.name.value for interface in getattr(node, "interfaces", None) or ()}
