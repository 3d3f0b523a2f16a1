"""The client's side of the Agent Client Protocol, without I/O: messages of the agent in, outcomes out.

State is a fold over what the agent wrote, so that whoever reads the same transcript knows the same. We offer the
agent neither files nor terminals: it has its own, inside its container.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from acp import schema
from acp.meta import PROTOCOL_VERSION
from pydantic import BaseModel, TypeAdapter, ValidationError

from runner.errors import AgentProtocolError
from runner.forms import Form, Request, UnfitFormError, form_of
from runner.pictures import Shown
from runner.protocol import (
    Plan,
    PlanEntry,
    Question,
    QuestionClosed,
    Said,
    StepStatus,
    ToolCall,
    Usage,
)
from runner.spoken import Words

OUTPUT_CHARACTERS: Final = 4_000
TITLE_CHARACTERS: Final = 300
REMEMBERED_TOOLS: Final = 500
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
_ID_CHARACTERS = 100
_Model = TypeVar("_Model", bound=BaseModel)

_STEP: Final[Mapping[str | None, StepStatus]] = {
    None: StepStatus.PENDING,
    "pending": StepStatus.PENDING,
    "in_progress": StepStatus.RUNNING,
    "completed": StepStatus.DONE,
    "failed": StepStatus.FAILED,
}
_UPDATES: Final[Mapping[str, type[BaseModel]]] = {
    "agent_message_chunk": schema.AgentMessageChunk,
    "agent_thought_chunk": schema.AgentThoughtChunk,
    "plan": schema.AgentPlanUpdate,
    "tool_call": schema.ToolCallStart,
    "tool_call_update": schema.ToolCallProgress,
    "usage_update": schema.UsageUpdate,
}
"""The updates that mean something to us; others are ignored."""
_elicitation: TypeAdapter[Request] = TypeAdapter(schema.CreateElicitationRequest)
_CONSENT: Final = ("allow_once", "allow_always", "reject_once", "reject_always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to send to the agent, with the key that makes it safe to send twice."""

    key: str
    msg: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Initialized:
    """The agent speaks our version."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The agent has a session for prompts."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    stop_reason: schema.StopReason


@dataclass(frozen=True, slots=True)
class Refused:
    """The agent answered a request with an error."""

    method: str
    reason: str
    tail: str = ""
    """Last output, if the agent sent some along (`data.tail`)."""


Outcome = (
    Message
    | Initialized
    | SessionOpened
    | TurnEnded
    | Refused
    | Plan
    | ToolCall
    | Said
    | Usage
    | Question
    | QuestionClosed
)


class AcpClient:
    """One connection with one session. Requests have the ids 1, 2, 3, … in the order they were made."""

    def __init__(self, pictures: Sequence[Shown] = ()) -> None:
        """`pictures` go with the first prompt, to an agent that can see."""
        self._pictures = pictures
        self._sees = False
        self._asked: dict[int, str] = {}
        self._count = 0
        self._session_id = ""
        self._words = Words()
        self._tools: dict[str, ToolCall] = {}
        self._usage = Usage()
        self._cancelled = False
        self._forms: list[Form] = []
        """What waits for people; they are asked for the first."""

    def initialize(self) -> Message:
        nothing = schema.FileSystemCapabilities(read_text_file=False, write_text_file=False)
        questions = schema.ElicitationCapabilities(form=schema.ElicitationFormCapabilities())
        capabilities = schema.ClientCapabilities(fs=nothing, terminal=False, elicitation=questions)
        return self._request(
            "initialize",
            schema.InitializeRequest(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=capabilities,
                client_info=schema.Implementation(name="errand", version="1"),
            ),
        )

    def new_session(self, cwd: str) -> Message:
        return self._request("session/new", schema.NewSessionRequest(cwd=cwd, mcp_servers=[]))

    def prompt(self, texts: Sequence[str]) -> Message:
        blocks: list[Any] = [schema.TextContentBlock(type="text", text=text) for text in texts]
        shown, self._pictures = self._pictures if self._sees else (), ()
        blocks += [_image(picture) for picture in shown]
        request = schema.PromptRequest(session_id=self._session_id, prompt=blocks)
        return self._request("session/prompt", request)

    def cancel(self) -> Message:
        """Ask the agent to end its turn; what it still wants permission for is answered `cancelled`."""
        self._cancelled = True
        note = {"method": "session/cancel", "params": {"sessionId": self._session_id}}
        return Message(key="acp:cancel", msg={"jsonrpc": "2.0", **note})

    def answer(self, question: str, text: str) -> list[Outcome] | None:
        """What people say to a question; None if nobody waits for that any more."""
        if not self._forms or self._forms[0].question.id != question:
            return None
        form = self._forms[0]
        result = form.take(text)
        closed = QuestionClosed(id=question, answered=True)
        if result is None:
            return [closed, form.question]
        self._forms.pop(0)
        following = [self._forms[0].question] if self._forms else []
        return [closed, _response(form.request_id, result=result), *following]

    def drop_questions(self) -> list[Outcome]:
        """Nobody will answer what is open."""
        forms, self._forms = self._forms, []
        closed = [QuestionClosed(id=form.question.id, answered=False) for form in forms[:1]]
        replies = [_response(form.request_id, result={"action": "cancel"}) for form in forms]
        return [*closed, *replies]

    def feed(self, msg: Mapping[str, Any]) -> list[Outcome]:
        """What one message of the agent means.

        Raises:
            AgentProtocolError: it is not what the protocol allows.
        """
        method, request_id = msg.get("method"), msg.get("id")
        if isinstance(method, str):
            params = msg.get("params") or {}
            if not isinstance(params, dict):
                raise AgentProtocolError(f"the parameters of {method[:80]} are no object")
            if request_id is None:
                return self._noted(method, params)
            return self._asked_by_agent(method, request_id, params)
        if isinstance(request_id, int) and not isinstance(request_id, bool):
            return self._answered(request_id, msg)
        raise AgentProtocolError("a message is neither request, notification nor response")

    def _request(self, method: str, params: BaseModel) -> Message:
        self._count += 1
        self._asked[self._count] = method
        body = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        envelope = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": body}
        return Message(key=f"acp:{self._count}", msg=envelope)

    def _answered(self, request_id: int, msg: Mapping[str, Any]) -> list[Outcome]:
        method = self._asked.pop(request_id, None)
        if method is None:
            return []
        if (error := msg.get("error")) is not None:
            return [*self._words.take(), _refusal(method, error)]
        result = msg.get("result")
        if method == "initialize":
            answer = _parse(schema.InitializeResponse, result)
            if answer.protocol_version != PROTOCOL_VERSION:
                raise AgentProtocolError(f"the agent speaks version {answer.protocol_version}")
            offered = answer.agent_capabilities and answer.agent_capabilities.prompt_capabilities
            self._sees = bool(offered and offered.image)
            return [Initialized()]
        if method == "session/new":
            self._session_id = _parse(schema.NewSessionResponse, result).session_id
            return [SessionOpened()]
        return self._turn_ended(_parse(schema.PromptResponse, result))

    def _turn_ended(self, answer: schema.PromptResponse) -> list[Outcome]:
        outcomes: list[Outcome] = list(self._words.take())
        if answer.usage is not None:
            before = self._usage
            outcomes += self._used(
                Usage(
                    input_tokens=(before.input_tokens or 0) + answer.usage.input_tokens,
                    output_tokens=(before.output_tokens or 0) + answer.usage.output_tokens,
                    cost_usd=before.cost_usd,
                )
            )
        return [*outcomes, TurnEnded(answer.stop_reason)]

    def _asked_by_agent(
        self, method: str, request_id: object, params: dict[str, Any]
    ) -> list[Outcome]:
        if not isinstance(request_id, int | str):
            raise AgentProtocolError(f"the id of a request for {method[:80]} is no number or text")
        if method == "elicitation/create":
            return self._elicited(request_id, params)
        if method != "session/request_permission":
            error = {"code": METHOD_NOT_FOUND, "message": f"{method[:80]} is not offered here"}
            return [_response(request_id, error=error)]
        request = _parse(schema.RequestPermissionRequest, params)
        outcome = _consent(request.options, cancelled=self._cancelled)
        reply = _response(request_id, result={"outcome": outcome})
        return [*self._words.take(), *self._tool(request.tool_call), reply]

    def _elicited(self, request_id: int | str, params: dict[str, Any]) -> list[Outcome]:
        if self._cancelled:
            return [_response(request_id, result={"action": "cancel"})]
        try:
            request = _elicitation.validate_python(params)
            form = form_of(request, request_id=request_id, name=_identity(request_id))
        except (ValidationError, UnfitFormError) as error:
            reason = str(error) if isinstance(error, UnfitFormError) else "that is no form"
            return [_response(request_id, error={"code": INVALID_PARAMS, "message": reason})]
        self._forms.append(form)
        asked = [form.question] if len(self._forms) == 1 else []
        return [*self._words.take(), *asked]

    def _noted(self, method: str, params: dict[str, Any]) -> list[Outcome]:
        if method != "session/update":
            return []
        raw = params.get("update")
        if not isinstance(raw, dict):
            raise AgentProtocolError("a session/update holds no update")
        model = _UPDATES.get(str(raw.get("sessionUpdate")))
        return [] if model is None else self._updated(_parse(model, raw))

    def _updated(self, update: BaseModel) -> list[Outcome]:
        match update:
            case schema.AgentMessageChunk():
                return list(self._chunk(update))
            case schema.UsageUpdate():
                return list(self._cost(update))
            case schema.AgentPlanUpdate():
                return [*self._words.take(), _plan(update)]
            case schema.ToolCallStart() | schema.ToolCallProgress():
                return [*self._words.take(), *self._tool(update)]
            case _:
                return list(self._words.take())

    def _chunk(self, chunk: schema.AgentMessageChunk) -> list[Said]:
        message_id = chunk.message_id
        known = self._words.message_id
        another = message_id is not None and known is not None and message_id != known
        said = self._words.take() if another else []
        self._words.message_id = message_id or known
        if isinstance(chunk.content, schema.TextContentBlock):
            self._words.add(chunk.content.text)
        return said

    def _cost(self, update: schema.UsageUpdate) -> list[Usage]:
        if update.cost is None or update.cost.currency.upper() != "USD":
            return []
        return self._used(self._usage.model_copy(update={"cost_usd": update.cost.amount}))

    def _used(self, usage: Usage) -> list[Usage]:
        changed = usage != self._usage
        self._usage = usage
        return [usage] if changed else []

    def _tool(self, call: schema.ToolCall | schema.ToolCallUpdate) -> list[ToolCall]:
        """The call as it stands now, if this changed it."""
        before = self._tools.pop(call.tool_call_id, None)
        status = before.status if before and call.status is None else _STEP[call.status]
        output = _output(call)
        now = ToolCall(
            id=call.tool_call_id[:TITLE_CHARACTERS],
            title=(call.title or (before.title if before else "tool"))[:TITLE_CHARACTERS],
            status=status,
            output=before.output if before and output is None else output or "",
        )
        self._tools[call.tool_call_id] = now
        if len(self._tools) > REMEMBERED_TOOLS:
            del self._tools[next(iter(self._tools))]
        return [] if now == before else [now]


def _parse(model: type[_Model], value: object) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise AgentProtocolError(
            f"{model.__name__} is malformed at {where or 'its root'}"
        ) from error


def _refusal(method: str, error: object) -> Refused:
    fields = error if isinstance(error, dict) else {}
    message, data = str(fields.get("message") or "an error without words"), fields.get("data")
    details = data if isinstance(data, dict) else {"details": data}
    detail = details.get("details") or details.get("message")
    reason = f"{message}: {detail}" if isinstance(detail, str) else message
    tail = details.get("tail")
    return Refused(
        method, reason[:1000], tail[-OUTPUT_CHARACTERS:] if isinstance(tail, str) else ""
    )


def _response(request_id: int | str, **body: Any) -> Message:
    key = f"acp:r{_identity(request_id)}"
    return Message(key=key, msg={"jsonrpc": "2.0", "id": request_id, **body})


def _identity(request_id: int | str) -> str:
    """A request's id as a short text, in which a number differs from the same digits as text."""
    identity = json.dumps(request_id)
    long = len(identity) > _ID_CHARACTERS
    return hashlib.sha256(identity.encode()).hexdigest() if long else identity


def _consent(options: Sequence[schema.PermissionOption], *, cancelled: bool) -> dict[str, str]:
    """The container is the limit, so what the agent asks for is allowed, for as short as it offers."""
    if cancelled or not options:
        return {"outcome": "cancelled"}
    best = min(options, key=lambda option: _CONSENT.index(option.kind))
    return {"outcome": "selected", "optionId": best.option_id}


def _image(picture: Shown) -> schema.ImageContentBlock:
    data = base64.b64encode(picture.content).decode()
    return schema.ImageContentBlock(type="image", data=data, mime_type=picture.kind)


def _plan(update: schema.AgentPlanUpdate) -> Plan:
    return Plan(
        entries=tuple(
            PlanEntry(title=entry.content[:TITLE_CHARACTERS], status=_STEP[entry.status])
            for entry in update.entries[:100]
        )
    )


def _output(call: schema.ToolCall | schema.ToolCallUpdate) -> str | None:
    """The text of the call's content; None if this message says nothing of it."""
    texts = [
        item.content.text
        for item in call.content or ()
        if isinstance(item, schema.ContentToolCallContent)
        and isinstance(item.content, schema.TextContentBlock)
    ]
    if not texts and isinstance(call.raw_output, str):
        texts = [call.raw_output]
    return "\n".join(texts)[-OUTPUT_CHARACTERS:] if texts else None
