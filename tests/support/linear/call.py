"""A GraphQL request that is being answered: what resolvers get."""

from dataclasses import dataclass

from tests.support.linear.entities import User
from tests.support.linear.limits import Limits
from tests.support.linear.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    world: World
    viewer: User
    limits: Limits
