"""Pictures that come with a request, on their way to the agent."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Picture(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The SHA-256 of its content, by which `serve` has it."""
    kind: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture with its content."""

    kind: str
    content: bytes
