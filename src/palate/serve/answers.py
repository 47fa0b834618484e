"""Answers to the questions of one request: when all are there, or piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from palate.serve.batcher import Batcher
from palate.serve.schemas import GivenAnswer
from palate.serve.service import Prepared


async def answer_all(batcher: Batcher, prepared: Sequence[Prepared]) -> list[GivenAnswer]:
    """The answers in the order of the questions; raises :class:`OverloadedError`."""
    batcher.ask([one.question for one in prepared])
    texts = await asyncio.gather(*(asyncio.wrap_future(one.question.answer) for one in prepared))
    return [one.given(text) for one, text in zip(prepared, texts, strict=True)]


def answer_pieces(batcher: Batcher, prepared: Sequence[Prepared], model: str) -> AsyncIterator[str]:
    """Server-sent events: ``piece`` after ``piece``, an ``answer`` for each question, and ``done``.

    Raises :class:`OverloadedError` at once, before anything is sent.
    """
    loop, told = asyncio.get_running_loop(), asyncio.Queue[tuple[str, int, str]]()

    def tell(kind: str, number: int, text: str) -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(told.put_nowait, (kind, number, text))

    for number, one in enumerate(prepared):
        one.question.tell = lambda text, number=number: tell("piece", number, text)
        one.question.answer.add_done_callback(
            lambda answer, number=number: tell(  # type: ignore[misc]
                *(("answer", number, answer.result()) if _answered(answer) else ("error", number, ""))
            )
        )
    batcher.ask([one.question for one in prepared])
    return _events(told, prepared, model)


def _answered(answer: Any) -> bool:
    return not answer.cancelled() and answer.exception() is None


async def _events(
    told: asyncio.Queue[tuple[str, int, str]], prepared: Sequence[Prepared], model: str
) -> AsyncIterator[str]:
    left = len(prepared)
    try:
        while left:
            kind, number, text = await told.get()
            if kind == "piece":
                yield _event("piece", {"question": number, "text": text})
                continue
            left -= 1
            if kind == "answer":
                yield _event("answer", {"question": number, **prepared[number].given(text).model_dump()})
            else:
                yield _event("error", {"question": number, "detail": "the server failed; its log says more"})
        yield _event("done", {"model": model})
    finally:  # nobody reads on: what no batch has taken need not be answered
        for one in prepared:
            one.question.answer.cancel()


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
