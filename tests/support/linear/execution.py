"""One GraphQL request: read, checked by the schema, executed over the world."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)
from pydantic.alias_generators import to_snake

from tests.support.linear.call import Call
from tests.support.linear.errors import LinearError, ungraphql
from tests.support.linear.limits import complexity
from tests.support.linear.mutations import Mutations
from tests.support.linear.queries import Queries
from tests.support.linear.schema import subset

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A document that fits the schema, with its variables."""

    document: DocumentNode
    operation: OperationDefinitionNode
    variables: Mapping[str, Any]
    name: str
    """Of the operation; empty where it has none."""
    fields: tuple[str, ...]
    """`agentActivityCreate`, …"""
    points: float

    @property
    def names(self) -> tuple[str, ...]:
        """By which faults and counts know it."""
        return (self.name, *self.fields)


def read(body: Mapping[str, Any]) -> Asked:
    """Raises LinearError where the document is none, or does not fit."""
    try:
        document = parse(str(body.get("query") or ""))
    except GraphQLSyntaxError as error:
        raise ungraphql(error.message) from error
    if errors := validate(subset(), document):
        raise ungraphql(errors[0].message)
    operation = get_operation_ast(document, body.get("operationName"))
    if operation is None:
        raise ungraphql("Unknown operation, or more than one")
    variables = body.get("variables") or {}
    return Asked(
        document=document,
        operation=operation,
        variables=variables,
        name=operation.name.value if operation.name else "",
        fields=tuple(
            s.name.value for s in operation.selection_set.selections if isinstance(s, FieldNode)
        ),
        points=complexity(subset(), document, operation, variables),
    )


def run(asked: Asked, call: Call) -> tuple[int, Json]:
    """HTTP status and body. An error that is not Linear's is a fault of the stand-in: it is raised."""
    writes = asked.operation.operation is OperationType.MUTATION
    result = execute_sync(
        subset(),
        asked.document,
        root_value=Mutations() if writes else Queries(),
        context_value=call,
        variable_values=dict(asked.variables),
        operation_name=asked.name or None,
        field_resolver=_resolve,
        type_resolver=_typename,
    )
    return _status(result), _body(result)


def _resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    name = to_snake(info.field_name)
    value = source[name] if isinstance(source, dict) else getattr(source, name)
    return value(info.context, **arguments) if callable(value) else value


def _typename(value: Any, _info: GraphQLResolveInfo[Any], _kind: GraphQLAbstractType) -> str:
    return str(value.typename)


def _status(result: ExecutionResult) -> int:
    for error in result.errors or ():
        original = error.original_error
        if isinstance(original, LinearError):
            if original.http_status != 200:
                return original.http_status
        elif original is not None and error.path:
            raise original
        elif not error.path:
            return 400  # variables that do not fit: nothing was executed
    return 200


def _body(result: ExecutionResult) -> Json:
    body: Json = {"data": result.data}
    if result.errors:
        body["errors"] = [_written(error) for error in result.errors]
    return body


def _written(error: GraphQLError) -> Json:
    written: Json = {**error.formatted}
    return {**ungraphql(error.message).body()["errors"][0], **written}
