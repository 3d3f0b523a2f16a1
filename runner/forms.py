"""What an agent asks people: a form of its protocol, put to them as one question after the other. Without I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from acp import schema

from runner.protocol import Question

MAX_FIELDS: Final = 20
MAX_OPTIONS: Final = 50
OPTION_CHARACTERS: Final = 150
TEXT_CHARACTERS: Final = 3_000
_ABOUT_CHARACTERS: Final = 300
_TRUTH: Final = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
_SKIP: Final = "skip"
_CONFIRM: Final = ("Yes", "No")
Request = (
    schema.CreateFormSessionElicitationRequest
    | schema.CreateFormRequestElicitationRequest
    | schema.CreateUrlSessionElicitationRequest
    | schema.CreateUrlRequestElicitationRequest
    | schema.CreateOtherElicitationRequest
)
_Form = schema.CreateFormSessionElicitationRequest | schema.CreateFormRequestElicitationRequest
_Property = (
    schema.ElicitationStringPropertySchema
    | schema.ElicitationNumberPropertySchema
    | schema.ElicitationIntegerPropertySchema
    | schema.ElicitationBooleanPropertySchema
    | schema.ElicitationMultiSelectPropertySchema
    | schema.ElicitationOtherPropertySchema
)


class UnfitFormError(ValueError):
    """A form that can't be put to people; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    label: str
    value: str
    about: str

    def is_meant(self, said: str) -> bool:
        return said.casefold() in {self.label.casefold(), self.value.strip().casefold()}


@dataclass(slots=True, kw_only=True)
class _Field:
    key: str
    kind: str
    """As JSON Schema calls it."""
    about: str
    choices: tuple[_Choice, ...]
    optional: bool
    other: str = ""
    """The field that takes what is none of the choices, if the form has one."""

    @property
    def options(self) -> tuple[str, ...]:
        if self.kind == "boolean":
            return _CONFIRM
        return tuple(choice.label for choice in self.choices)

    def read(self, said: str) -> dict[str, Any] | None:
        """What goes into the form; None if that is no answer."""
        if not self.options and self.optional and said.casefold() == _SKIP:
            return {}
        match self.kind:
            case "boolean":
                truth = _TRUTH.get(said.casefold())
                return None if truth is None else {self.key: truth}
            case "number" | "integer":
                number = _number(said, whole=self.kind == "integer")
                return None if number is None else {self.key: number}
            case "array":
                return self._several(said)
            case _ if not self.choices:
                return {self.key: said}
            case _:
                found = self._meant(said)
                return {self.key: found.value} if found else self._else(said)

    def _several(self, said: str) -> dict[str, Any] | None:
        whole = self._meant(said)
        parts = [said] if whole else [part.strip() for part in said.split(",") if part.strip()]
        found = [(part, self._meant(part)) for part in parts]
        values = list(dict.fromkeys(choice.value for _, choice in found if choice))
        rest = [part for part, choice in found if choice is None]
        beside = self._else(", ".join(rest)) if rest else {}
        return None if beside is None else {**({self.key: values} if values else {}), **beside}

    def _meant(self, said: str) -> _Choice | None:
        return next((choice for choice in self.choices if choice.is_meant(said)), None)

    def _else(self, said: str) -> dict[str, Any] | None:
        return {self.other: said} if self.other else None


@dataclass(slots=True, kw_only=True)
class Form:
    """A request of the agent that waits for people."""

    request_id: int | str
    name: str
    """Of the request, the same in every fold of the transcript."""
    message: str
    fields: tuple[_Field, ...]
    _given: dict[str, Any] = field(default_factory=dict)
    _step: int = 0
    _tries: int = 0
    _confirmed: bool | None = None

    @property
    def question(self) -> Question:
        """What people are asked now."""
        at = self._current
        parts = [self.message]
        if at is not None:
            if len(self.fields) > 1:
                number = f"({self._step + 1} of {len(self.fields)})"
                parts.insert(0, f"{at.about or at.key} {number}")  # a card shows the first line
            elif at.about:
                parts.append(at.about)
            parts += [f"• {c.label}: {c.about}" for c in at.choices if c.about]
            parts += _hints(at)
        if self._tries:
            parts.append(f"{self._complaint(at)} Please answer again.")
        return Question(
            id=f"{self.name}.{self._step}.{self._tries}",
            text="\n".join(part for part in parts if part)[:TEXT_CHARACTERS],
            options=_CONFIRM if at is None else at.options,
        )

    def take(self, said: str) -> Mapping[str, Any] | None:
        """An answer of people; what the agent is told once there is nothing more to ask, else None."""
        text, at = said.strip(), self._current
        read = self._read(text, at) if text else None
        if read is None:
            self._tries += 1
            return None
        self._given |= read
        self._step += 1
        self._tries = 0
        if self._step < len(self.fields):
            return None
        if self._confirmed is False:
            return {"action": "decline"}
        return {"action": "accept", "content": self._given}

    @property
    def _current(self) -> _Field | None:
        """None for a form without fields: that is yes or no."""
        return self.fields[self._step] if self.fields else None

    def _read(self, text: str, at: _Field | None) -> dict[str, Any] | None:
        if at is not None:
            return at.read(text)
        self._confirmed = _TRUTH.get(text.casefold())
        return None if self._confirmed is None else {}

    def _complaint(self, at: _Field | None) -> str:
        if at is not None and at.kind in {"number", "integer"}:
            return f"That is no {'whole number' if at.kind == 'integer' else 'number'}."
        return "That is none of the answers that the agent can take."


def form_of(request: Request, *, request_id: int | str, name: str) -> Form:
    """Raises UnfitFormError."""
    if not isinstance(request, _Form):
        raise UnfitFormError("only forms can be put to people here")
    properties = request.requested_schema.properties or {}
    required = set(request.requested_schema.required or ())
    fields: list[_Field] = []
    for key, given in properties.items():
        asked = fields[-1] if fields else None
        if asked is not None and _completes(asked, key, given):
            asked.other = key
        else:
            fields.append(_field(key, given, optional=key not in required))
    if len(fields) > MAX_FIELDS:
        raise UnfitFormError(f"more than {MAX_FIELDS} questions at once")
    message = request.message.strip() or "The agent asks for something."
    return Form(request_id=request_id, name=name, message=message, fields=tuple(fields))


def _completes(asked: _Field, key: str, given: _Property) -> bool:
    """Named after a choice, and for free text: it takes what is none of the choices."""
    free = isinstance(given, schema.ElicitationStringPropertySchema) and not _choices(given)
    return free and bool(asked.choices) and not asked.other and key.startswith(asked.key)


def _field(key: str, given: _Property, *, optional: bool) -> _Field:
    choices = _choices(given)
    if isinstance(given, schema.ElicitationOtherPropertySchema):
        raise UnfitFormError(f"a field of the unknown type {given.type[:40]}")
    if isinstance(given, schema.ElicitationMultiSelectPropertySchema) and not choices:
        raise UnfitFormError("a choice without anything to choose")
    title = given.title or "" if not choices else ""
    about = _line(given.description or title, _ABOUT_CHARACTERS)
    return _Field(key=key, kind=given.type, about=about, choices=choices, optional=optional)


def _choices(given: _Property) -> tuple[_Choice, ...]:
    match given:
        case schema.ElicitationStringPropertySchema():
            titled, plain = given.one_of, given.enum
        case schema.ElicitationMultiSelectPropertySchema(
            items=schema.TitledMultiSelectItems() as i
        ):
            titled, plain = i.any_of, None
        case schema.ElicitationMultiSelectPropertySchema(
            items=schema.StringMultiSelectItems() as s
        ):
            titled, plain = None, s.enum
        case _:
            return ()
    found = [(o.title, o.const, o.description or "") for o in titled or ()]
    found += [(value, value, "") for value in plain or ()]
    return tuple(
        _Choice(
            label=_line(label, OPTION_CHARACTERS) or "…",
            value=value,
            about=_line(about, _ABOUT_CHARACTERS),
        )
        for label, value, about in found[:MAX_OPTIONS]
    )


def _hints(at: _Field) -> list[str]:
    if at.kind == "array":
        return ["Several can be chosen: reply with them, with commas between."]
    return [f"`{_SKIP}` leaves it out."] if at.optional and not at.options else []


def _number(said: str, *, whole: bool) -> float | int | None:
    try:
        number = int(said) if whole else float(said)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
