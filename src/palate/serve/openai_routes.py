"""OpenAI-compatible routes: completions and chat about the stored user that the field ``user`` names."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from palate.errors import NotServedError
from palate.serve.batcher import QueuedQuestion
from palate.serve.openai_schemas import (
    AnsweredMessage,
    AskedChat,
    AskedCompletion,
    AskedModel,
    ChatChoice,
    ChatCompletion,
    Completion,
    CompletionChoice,
    Finish,
    ListedModel,
    ListedModels,
    OpenAIError,
    Usage,
    new_answer,
    openai_error,
)
from palate.serve.requests import JsonRoute
from palate.serve.routes import SSE, Serving
from palate.serve.schemas import SentQuestion
from palate.serve.service import Part, Prepared, Service, answer_all, answer_parts

log = logging.getLogger("palate.serve")
STARTED = int(time.time())
_Chunk: TypeAlias = Callable[[int, str, Finish | None], dict[str, Any]]
"""Creates a choice of a chunk from its index, a piece of text, and the finish reason."""

openai_routes = APIRouter(
    prefix="/v1",
    tags=["OpenAI"],
    route_class=JsonRoute,
    responses={
        status: {"model": OpenAIError, "description": "What is wrong"}
        for status in (400, 401, 404, 408, 413, 421, 429, 502, 503, 504)
    },
)


@openai_routes.get("/models")
def models(service: Serving) -> ListedModels:
    """List the language model that is served."""
    there = [service.name] if service.users.model is not None else []
    return ListedModels(data=[ListedModel(id=name, created=STARTED) for name in there])


@openai_routes.post("/completions", response_model=Completion)
async def completions(sent: AskedCompletion, service: Serving) -> Any:
    """Answer questions about a stored user."""
    prepared = await _prepared(service, sent, sent.prompts)
    begun = new_answer("cmpl", service.name, service.served.identity)
    if sent.stream:

        def chunk(index: int, text: str, finish: Finish | None) -> dict[str, Any]:
            return CompletionChoice(index=index, text=text, finish_reason=finish).model_dump()

        return _streamed(
            service, sent, prepared, sent.max_tokens, {**begun, "object": "text_completion"}, chunk
        )
    texts = [one.text for one in await answer_all(service.batcher, prepared)]
    ended = [
        _Ended.of(one.question, text, sent.max_tokens) for one, text in zip(prepared, texts, strict=True)
    ]
    choices = [
        CompletionChoice(index=index, text=one.text, finish_reason=one.finish)
        for index, one in enumerate(ended)
    ]
    return Completion(**begun, choices=choices, usage=_usage(prepared, ended))


@openai_routes.post("/chat/completions", response_model=ChatCompletion)
async def chat_completions(sent: AskedChat, service: Serving) -> Any:
    """Answer the last message of a conversation about a stored user."""
    prepared = await _prepared(service, sent, [sent.question])
    begun = new_answer("chatcmpl", service.name, service.served.identity)
    if sent.stream:

        def chunk(index: int, text: str, finish: Finish | None) -> dict[str, Any]:
            delta = {} if finish else {"role": "assistant", "content": text}
            return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}

        return _streamed(
            service, sent, prepared, sent.most, {**begun, "object": "chat.completion.chunk"}, chunk
        )
    (given,) = await answer_all(service.batcher, prepared)
    one = _Ended.of(prepared[0].question, given.text, sent.most)
    choice = ChatChoice(message=AnsweredMessage(content=one.text), finish_reason=one.finish)
    return ChatCompletion(**begun, choices=[choice], usage=_usage(prepared, [one]))


async def _prepared(service: Service, sent: AskedModel, instructions: Sequence[str]) -> list[Prepared]:
    """Encode the user of questions; raises :class:`NotServedError` unless ``model`` names the served one."""
    identity = service.served.identity
    if sent.model not in (service.name, identity):
        raise NotServedError(f"model: {sent.model!r} is not served; GET /v1/models lists the served model")
    questions = [SentQuestion(user_id=sent.user, instruction=one or None) for one in instructions]
    for one in questions:
        service.limits.check_question(one)
    prepared = await service.prepare(questions)
    if service.log_content:
        log.info("asked %r", [(one.user_id, one.question.question.text) for one in prepared])
    return prepared


@dataclass(frozen=True)
class _Ended:
    """An answer truncated to the maximum number of tokens, with its finish reason."""

    text: str
    tokens: int
    finish: Finish

    @classmethod
    def of(cls, asked: QueuedQuestion, text: str, most: int | None) -> _Ended:
        """Truncate a text to ``most`` tokens; None for no limit."""
        tokenizer = asked.model.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if most is None or len(ids) <= most:
            return cls(text, len(ids), "stop")
        return cls(tokenizer.decode(ids[:most], skip_special_tokens=True), most, "length")


def _vectors(asked: QueuedQuestion) -> int:
    """Count the input vectors of a question: chat frame, task prompt, user prompt and instruction."""
    model, frame = asked.model, asked.model.frame
    around = 0 if frame is None else len(frame.opening) + len(frame.closing)
    instruction = model.tokenizer(asked.question.text)["input_ids"]
    return around + len(model.task_prompt) + int(asked.user.mask.sum()) + len(instruction)


def _usage(prepared: Sequence[Prepared], ended: Sequence[_Ended]) -> Usage:
    return Usage.of(sum(_vectors(one.question) for one in prepared), sum(one.tokens for one in ended))


def _streamed(
    service: Service,
    sent: AskedModel,
    prepared: Sequence[Prepared],
    most: int | None,
    begun: dict[str, Any],
    chunk: _Chunk,
) -> StreamingResponse:
    """Stream answers; raises :class:`OverloadedError` before the response starts."""
    parts = answer_parts(service.batcher, prepared)
    lines = _lines(_Written(prepared, most), parts, begun, chunk, sent.wants_usage)
    return StreamingResponse(lines, media_type=SSE, headers={"Cache-Control": "no-store"})


@dataclass
class _Written:
    """Progress of streamed answers."""

    prepared: Sequence[Prepared]
    most: int | None
    whole: dict[int, str] = field(default_factory=dict)
    """The text generated so far of each answer, of which at most ``most`` tokens are sent."""
    sent: dict[int, _Ended] = field(default_factory=dict)
    """The text sent so far of each answer."""

    def add(self, number: int, text: str) -> str:
        """Append a piece to an answer; returns the text to send."""
        return self.reach(number, self.whole.get(number, "") + text)

    def reach(self, number: int, whole: str) -> str:
        """Replace the text of an answer generated so far; returns the text to send."""
        self.whole[number] = whole
        before = self.sent[number].text if number in self.sent else ""
        self.sent[number] = now = _Ended.of(self.prepared[number].question, whole, self.most)
        return now.text[len(before) :] if now.text.startswith(before) else ""


async def _lines(
    written: _Written, parts: AsyncIterator[Part], begun: dict[str, Any], chunk: _Chunk, usage: bool
) -> AsyncIterator[str]:
    """Format server-sent events: a chunk per piece, one per finish, the usage if requested, and ``[DONE]``."""
    nothing = {"usage": None} if usage else {}
    async for part in parts:
        if part.kind == "error":
            yield _data(openai_error(500, part.text))
            return
        text = (written.reach if part.kind == "answer" else written.add)(part.number, part.text)
        if text:
            yield _data({**begun, "choices": [chunk(part.number, text, None)], **nothing})
        if part.kind == "answer":
            finish = written.sent[part.number].finish
            yield _data({**begun, "choices": [chunk(part.number, "", finish)], **nothing})
    if usage:
        ended = [written.sent[number] for number in range(len(written.prepared))]
        yield _data({**begun, "choices": [], "usage": _usage(written.prepared, ended).model_dump()})
    yield "data: [DONE]\n\n"


def _data(content: dict[str, Any] | BaseModel) -> str:
    text = content.model_dump_json() if isinstance(content, BaseModel) else json.dumps(content)
    return f"data: {text}\n\n"
