"""Client of an engine's completions API that sends prompt embeddings and receives token ids."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
from torch import Tensor

from palate.errors import (
    EngineBusyError,
    EngineError,
    EngineTimeoutError,
    EngineUnreachableError,
    MismatchError,
)
from palate.export.write import as_prompt_embeds
from palate.serve import metrics
from palate.serve.settings import ENGINE_KEY, EngineSettings

TRIES = 3
"""Maximum number of attempts with an engine that fails or is busy; greedy decoding makes a retry idempotent."""
PAUSE = 0.2
"""Delay before the second attempt, in seconds; doubled for each further one."""
CONNECT = 5.0
"""Timeout for connecting, in seconds."""
SAID = 200
"""Maximum length of an engine's message in palate's errors, in characters."""


@dataclass(frozen=True)
class WrittenTokens:
    """Tokens that an engine has generated."""

    token_ids: list[int]
    ended: bool
    """Whether an end token was generated."""
    likeliest: tuple[Mapping[int, float], ...] = ()
    """Log-probabilities of the most probable tokens at each position, if requested."""


class CompletionsClient:
    """Thread-safe client that generates completions of prompts on an engine.

    Args:
        settings: URL and model of the engine.
        most: Maximum number of connections.
        seconds: Timeout of a request, in seconds.
    """

    def __init__(self, settings: EngineSettings, most: int, seconds: float) -> None:
        self.settings = settings
        key = os.environ.get(ENGINE_KEY)
        self._http = httpx.Client(
            base_url=settings.base,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=min(CONNECT, seconds)),
            limits=httpx.Limits(max_connections=most + 2, max_keepalive_connections=most + 2),
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @cached_property
    def model(self) -> str:
        """Name of the model; raises :class:`EngineError` if it is not served, or is not set and not unique."""
        served, wanted = self.models(), self.settings.model
        if wanted is None and len(served) == 1:
            return served[0]
        if wanted in served:
            return str(wanted)
        names = ", ".join(map(repr, served)) or "none"
        asked = "several models" if wanted is None else f"no model {wanted!r}"
        raise EngineError(
            f"the engine at {self.settings.url} serves {asked}; name one of {names} as --engine-model"
        )

    def models(self) -> list[str]:
        """List the names of the engine's models."""
        with self._told(), self._sent("GET", "/models", None) as response:
            response.read()
            return [str(one["id"]) for one in response.json()["data"]]

    def written(
        self,
        prompt: Tensor,
        most: int,
        stops: Sequence[int],
        allowed: Sequence[int] | None = None,
        likeliest: int | None = None,
    ) -> WrittenTokens:
        """Generate a completion of a prompt by greedy decoding.

        Args:
            prompt: The prompt's embeddings, [T, E].
            most: Maximum number of new tokens.
            stops: Ids of end tokens.
            allowed: Ids of the only allowed tokens; None allows all.
            likeliest: Number of most probable tokens per position whose log-probabilities are returned; None for none.

        Raises:
            EngineError: The engine is unreachable, failed, refused the request, or sent an invalid response.
            MismatchError: The prompt has a wrong shape or type, or values that are not finite or too large.
        """
        body = self._body(prompt, most, stops, allowed)
        if likeliest is not None:
            body |= {"logprobs": likeliest, "return_tokens_as_token_ids": True}
        with self._told(), self._sent("POST", "/completions", body) as response:
            response.read()
            (choice,) = response.json()["choices"]
            ids = _ids(choice)
            places = (choice.get("logprobs") or {}).get("top_logprobs") or ()
            found = tuple(
                {int(name.removeprefix("token_id:")): value for name, value in one.items()} for one in places
            )
        return WrittenTokens(ids, _has_ended(choice, ids, stops), found)

    def pieces(self, prompt: Tensor, most: int, stops: Sequence[int]) -> Iterator[WrittenTokens]:
        """Stream a completion token by token; arguments and errors are those of :meth:`written`.

        Closing the iterator early stops the generation.
        """
        body = {**self._body(prompt, most, stops, None), "stream": True}
        with self._told(), self._sent("POST", "/completions", body) as response:
            for line in response.iter_lines():
                name, _, text = line.partition(": ")
                if name != "data" or text == "[DONE]":
                    continue
                content = json.loads(text)
                if "error" in content:
                    raise EngineError(self._failed(_said(content)))
                for choice in content["choices"]:
                    ids = _ids(choice)
                    yield WrittenTokens(ids, _has_ended(choice, ids, stops))

    def _body(
        self, prompt: Tensor, most: int, stops: Sequence[int], allowed: Sequence[int] | None
    ) -> dict[str, Any]:
        if prompt.dim() != 2 or not len(prompt) or not prompt.is_floating_point():
            raise MismatchError(f"a prompt of {prompt.dtype} {list(prompt.shape)}, expected vectors [T, E]")
        # engines accept values that are not finite, which may spoil other requests of the batch; the sum of squares
        # also has to be finite, as normalisation layers compute it
        if not bool(prompt.float().square().sum(dim=1).isfinite().all()):
            raise MismatchError(
                "the prompt has values that are not finite, or too large; train the model again"
            )
        body: dict[str, Any] = {
            "model": self.model,
            "prompt_embeds": as_prompt_embeds(prompt),
            "max_tokens": most,
            "temperature": 0,
            "stop_token_ids": list(stops),
            "return_token_ids": True,
        }
        return body if allowed is None else {**body, "allowed_token_ids": list(allowed)}

    @contextmanager
    def _sent(self, method: str, path: str, body: dict[str, Any] | None) -> Iterator[httpx.Response]:
        """Send a request, with retries if the engine is busy, fails or closes the connection before responding."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            with suppress(httpx.TransportError) if not last else _nothing(), metrics.engine_seconds.time():
                request = self._http.build_request(method, path, json=body)
                response = self._http.send(request, stream=True)
                if last or (response.status_code < 500 and response.status_code != 429):
                    try:
                        self._check(response)
                        yield response
                    finally:
                        response.close()
                    return
                response.close()
            time.sleep(PAUSE * 2**attempt)

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        said = response.reason_phrase
        with suppress(ValueError):
            said = _said(response.json()) or said
        status = response.status_code
        if status in (429, 503):
            wait = response.headers.get("retry-after", "")
            raise EngineBusyError(
                f"the engine at {self.settings.url} is busy ({status}); try again",
                int(wait) if wait.isdigit() else 2,
            )
        if status in (401, 403):
            raise EngineError(
                f"the engine at {self.settings.url} does not accept the API key ({status}); set {ENGINE_KEY}"
            )
        if status < 500:
            raise EngineError(f"the engine at {self.settings.url} refused the request ({status}: {said})")
        raise EngineError(self._failed(f"{status}: {said}"))

    def _failed(self, said: str) -> str:
        return f"the engine at {self.settings.url} failed ({said}); its log says more"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Convert connection and parsing errors to :class:`EngineError`, and count outcomes."""
        outcome = "failed"
        try:
            yield
            outcome = "answered"
        except GeneratorExit:
            outcome = "left"  # the client is gone
            raise
        except EngineBusyError:
            outcome = "busy"
            raise
        except httpx.TimeoutException as error:
            outcome = "timeout"
            raise EngineTimeoutError(
                f"the engine at {self.settings.url} did not answer in {self._http.timeout.read:g} s; try again, or "
                "raise --limit engine_seconds"
            ) from error
        except httpx.TransportError as error:
            outcome = "unreachable"
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EngineUnreachableError(
                f"the engine at {self.settings.url} cannot be reached ({reason}); start it, or give another --engine"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(
                f"the engine at {self.settings.url} sent no valid completion with token ids "
                f"({type(error).__name__}); expected vLLM 0.10 or newer"
            ) from error
        finally:
            metrics.engine_requests.labels(outcome).inc()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _ids(choice: Mapping[str, Any]) -> list[int]:
    return [int(one) for one in choice["token_ids"] or ()]


def _has_ended(choice: Mapping[str, Any], ids: Sequence[int], stops: Sequence[int]) -> bool:
    return choice.get("finish_reason") == "stop" or bool(ids and ids[-1] in stops)


def _said(content: Any) -> str:
    """Extract the message of an OpenAI error object, as one line of at most :data:`SAID` characters."""
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", "") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:SAID]
