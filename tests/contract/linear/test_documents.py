"""How GraphQL documents and schemas are compared, and that ours fit."""

from typing import Final

import pytest
from graphql import DocumentNode, GraphQLInputObjectType, parse

from tests.support.linear.filters import OPERATORS
from tests.support.linear.schema import additions, differences, documents, problems, subset

OFFICIAL: Final = """
type Query { issue(id: String!, archived: Boolean = false): Issue! states(first: Int): [State!] }
type Issue { id: ID! title: String! state: State }
enum State { open closed }
input Filter { id: ID! title: String }
union Found = Issue | Other
type Other { id: ID! }
scalar JSON
"""


def official() -> DocumentNode:
    return parse(OFFICIAL)


def test_our_documents_fit_the_schema() -> None:
    found = {name: problems(text) for name, text in documents().items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_document_that_does_not_fit_is_found() -> None:
    found = problems("query { viewer { favouriteColour } }")
    assert found
    assert all("favouriteColour" in problem for problem in found)


def test_a_part_is_a_part() -> None:
    ours = """
      type Query { issue(id: String!): Issue! }
      type Issue { id: ID! state: State }
      enum State { open }
      input Filter { id: ID! }
      union Found = Issue
    """
    assert differences(parse(ours), official()) == []


@pytest.mark.parametrize(
    ("ours", "difference"),
    [
        ("type Task { id: ID! }", "Task: not there as object_type_definition"),
        ("input Issue { id: ID! }", "Issue: not there as input_object_type_definition"),
        ("type Issue { colour: String }", "Issue.colour: not there"),
        ("type Issue { title: String }", "Issue.title: String is String! there"),
        ("type Query { issue(id: ID!): Issue! }", "Query.issue(id): ID! is not there"),
        ("type Query { issue: Issue! }", "Query.issue(id): required there, left out here"),
        ("type Query { states(last: Int): [State!] }", "Query.states(last): Int is not there"),
        (
            "type Query { issue(id: String!, archived: Boolean): Issue! }",
            "Query.issue(archived): Boolean is not there",
        ),
        ("enum State { asleep }", "State.asleep: not there"),
        ("input Filter { title: String }", "Filter(id): required there, left out here"),
        ("union Found = Issue | Task", "Found.Task: not there"),
        ("type Issue implements Node { id: ID! }", "Issue: does not implement Node"),
    ],
)
def test_what_is_not_a_part_is_told(ours: str, difference: str) -> None:
    assert differences(parse(ours), official()) == [difference]


def test_an_extension_that_is_there_already_is_told() -> None:
    ours = parse("extend enum State { closed asleep } extend input Filter { title: String }")
    assert additions(ours, official()) == ["State.closed", "Filter.title"]


def test_every_comparator_of_the_schema_is_one_that_filters_know() -> None:
    known = OPERATORS.keys() | {"null"}
    used = {
        field.out_name
        for name, kind in subset().type_map.items()
        if isinstance(kind, GraphQLInputObjectType) and name.endswith("Comparator")
        for field in kind.fields.values()
    }
    assert used <= known
