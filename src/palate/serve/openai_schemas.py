"""Request, response and error schemas of the OpenAI-compatible routes."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, StringConstraints, model_validator

from palate.serve.schemas import UserId
from palate.system.records import Frozen

Finish: TypeAlias = Literal["stop", "length"]
_Text: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True)]
_NO_EFFECT = "Accepted but ignored, as decoding is greedy"


class StreamOptions(Frozen):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(None, description="Whether a last chunk holds the usage")


class AskedModel(Frozen):
    """Fields that completions and chat completions share."""

    model: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="Name of the model, as in GET /v1/models"
    )
    user: UserId = Field(description="Id of the stored user that the question is about")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = Field(None, description="Number of answers, always 1, as decoding is greedy")
    temperature: float | None = Field(None, ge=0, le=2, description=_NO_EFFECT)
    top_p: float | None = Field(None, ge=0, le=1, description=_NO_EFFECT)
    seed: int | None = Field(None, description=_NO_EFFECT)
    presence_penalty: float | None = Field(None, ge=-2, le=2, description=_NO_EFFECT)
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description=_NO_EFFECT)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class AskedCompletion(AskedModel):
    """One or several questions about a user."""

    prompt: _Text | Annotated[list[_Text], Field(min_length=1)] = Field(
        "", description="The question; if empty, the instruction that the model was trained with"
    )
    max_tokens: int | None = Field(None, ge=1)

    @property
    def prompts(self) -> list[str]:
        """The questions."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class TextPart(Frozen):
    """A text part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Frozen):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts of the message, joined by newlines."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content)]
        return "\n".join(part.text for part in parts).strip()


class AskedChat(AskedModel):
    """A conversation whose last message is the question."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)] = Field(
        description="The last message is the question, with the role user; if empty, the instruction that the model "
        "was trained with. Earlier messages are ignored, as models are trained on single questions"
    )
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _asks(self) -> AskedChat:
        if self.messages[-1].role != "user":
            raise ValueError(f"the last message has the role {self.messages[-1].role!r}, expected 'user'")
        return self

    @property
    def question(self) -> str:
        """Text of the last message."""
        return self.messages[-1].text

    @property
    def most(self) -> int | None:
        """Maximum length of the answer in tokens."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class Usage(BaseModel):
    """Numbers of the backbone's input vectors and of generated tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, read: int, written: int) -> Usage:
        """Create the usage from both numbers."""
        return cls(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


class CompletionChoice(BaseModel):
    """The answer to one prompt."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: Finish | None


class Completion(BaseModel):
    """Answers to the prompts of a request."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class AnsweredMessage(BaseModel):
    """The answer as a message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The answer to a conversation."""

    index: int = 0
    message: AnsweredMessage
    logprobs: None = None
    finish_reason: Finish


class ChatCompletion(BaseModel):
    """Answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class ListedModel(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Start of the server, in seconds since 1970")
    owned_by: Literal["palate"] = "palate"


class ListedModels(BaseModel):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ListedModel]


class Fault(BaseModel):
    """Content of an OpenAI error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """OpenAI error object."""

    error: Fault


_KINDS: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def openai_error(status: int, detail: str) -> OpenAIError:
    """Create an OpenAI error object; its ``param`` is the field that the message starts with, if any."""
    kind, code = _KINDS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    field = re.match(r"([a-z_]+)(\.[\w.]+)?: ", detail)
    param = field[1] if field and status < 500 else None
    return OpenAIError(error=Fault(message=detail, type=kind, param=param, code=code))


def new_answer(kind: Literal["cmpl", "chatcmpl"], name: str, identity: str) -> dict[str, Any]:
    """Return the fields that all chunks and responses of a request share."""
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": name,
        "system_fingerprint": identity,
    }
