"""Synchronous HTTP client of the server that ``palate serve`` starts."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

import httpx

from palate.data.event_fields import shown
from palate.errors import PalateError

if TYPE_CHECKING:
    from palate.schema import Floats

Fields: TypeAlias = Mapping[str, Any]
_LATER = (429, 503)
LONGEST_WAIT = 60.0
"""Maximum delay before a retry, in seconds, whatever ``Retry-After`` says."""


class ServerError(PalateError):
    """Error response of a server.

    Args:
        status: HTTP status code.
        detail: The server's description of the error.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"the server responded {status}: {detail}")


class Client:
    """Client of a palate server, which retries requests while the server is busy or unreachable.

    Adding events is idempotent: each gets an id before it is sent, so that a retry never stores it twice.

    Args:
        url: Base URL of the server.
        key: API key; None for a server without keys.
        tries: Maximum number of attempts per request, at least 1.
        seconds: Timeout of one attempt, in seconds.

    Raises:
        ServerError: A method got an error response.
        PalateError: The server was unreachable in all attempts.

    Example:
        >>> with palate.Client("http://127.0.0.1:8000", key="secret") as client:  # doctest: +SKIP
        ...     client.add_events("me", [{"item_id": "3", "rating": 5}])
        ...     client.answer("me")
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        tries: int = 4,
        seconds: float = 60,
    ) -> None:
        self.tries = tries
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def add_events(self, user_id: str, events: Sequence[Fields]) -> dict[str, Any]:
        """Add events to a user's history.

        Args:
            user_id: The user, who is created by the first event.
            events: Events such as ``{"item_id": "50", "rating": 4, "timestamp": 893286638}``; a timestamp may also be
                a ``datetime`` or an ISO date, in UTC if it has no time zone.

        Returns:
            The numbers of ``new`` events and of those that were already ``known``, and the history's ``version``.
        """
        sent = [{"event_id": uuid.uuid4().hex, **event} for event in events]
        return self._json("POST", f"{_user(user_id)}/events", **_body(sent))

    def add_many(self, events: Sequence[Fields]) -> list[dict[str, Any]]:
        """Add events of several users in one transaction; each event has a ``user_id``.

        Returns:
            One dictionary a user: its ``user_id`` and what :meth:`add_events` returns.
        """
        lines = [_text({"event_id": uuid.uuid4().hex, **event}) for event in events]
        sent = self._json(
            "POST", "/events", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        )
        users: list[dict[str, Any]] = sent["users"]
        return users

    def history(self, user_id: str, newest: int = 1_000, skip: int = 0) -> dict[str, Any]:
        """Get a page of a user's history, oldest first, with the history's version.

        Args:
            user_id: The user.
            newest: Number of events, counted from the end.
            skip: Number of events at the end to leave out.
        """
        return self._json("GET", f"{_user(user_id)}/history", params={"newest": newest, "skip": skip})

    def users(self, starting: str = "", most: int = 100) -> list[str]:
        """List at most ``most`` user ids with the prefix ``starting``, sorted."""
        found = self._json("GET", "/users", params={"starting": starting, "most": most})
        users: list[str] = found["users"]
        return users

    def delete_events(
        self, user_id: str, *, event_ids: Sequence[str] = (), item_ids: Sequence[str] = ()
    ) -> int:
        """Delete events of a user by their ids or by their items.

        Returns:
            The number of deleted events.
        """
        which = {"event_id": list(event_ids), "item_id": list(item_ids)}
        return int(self._json("DELETE", f"{_user(user_id)}/events", params=which)["events"])

    def upgrade(self) -> dict[str, Any]:
        """Get the progress of an upgrade from one model to another, and which of the two answers."""
        return self._json("GET", "/upgrade")

    def switch(self, which: Literal["old", "new"]) -> dict[str, Any]:
        """Switch to the old or the new model of an upgrade; returns what :meth:`upgrade` does."""
        return self._json("POST", "/upgrade", **_body({"serve": which}))

    def delete_user(self, user_id: str) -> int:
        """Delete a user with all events and derived data.

        Returns:
            The number of deleted events.
        """
        return int(self._json("DELETE", _user(user_id))["events"])

    def export(self, user_id: str) -> Iterator[dict[str, Any]]:
        """Stream all that the server stores about a user, as dictionaries with a ``kind``.

        The kinds are ``user``, ``event``, ``encoding`` (user prompts and states, in base64), ``deletion`` and
        ``export``, the folder of an export that holds the user.

        Raises:
            PalateError: The export is incomplete: data was deleted meanwhile, or the stream ended early.
        """
        count, ended = 0, False
        with self._streamed("GET", f"{_user(user_id)}/export") as response:
            for line in filter(None, response.iter_lines()):
                found: dict[str, Any] = json.loads(line)
                if found["kind"] == "error":
                    raise PalateError(f"the export of user {user_id!r} is incomplete: {found['detail']}")
                if found["kind"] == "end":
                    ended = found["lines"] == count
                    break
                count += 1
                yield found
        if not ended:
            raise PalateError(
                f"the export of user {user_id!r} is incomplete: it ends after {count:,} lines, without the line of "
                "the kind 'end'; try again"
            )

    def deletions(
        self, user_id: str | None = None, *, after: int = 0, most: int = 1_000
    ) -> list[dict[str, Any]]:
        """List entries of the deletion log, oldest first.

        Args:
            user_id: Only deletions of this user; all if None.
            after: Only entries with a larger ``number``.
            most: Maximum number of entries.

        Returns:
            For each entry its ``number``, ``deleted_at``, ``kind``, the numbers of deleted ``users`` and ``events``,
            the ``api_key`` of the request, and ``who``, a digest of the user's id.
        """
        asked = {"after": after, "most": most, **({} if user_id is None else {"user_id": user_id})}
        found: list[dict[str, Any]] = self._json("GET", "/deletions", params=asked)["deletions"]
        return found

    def answer(
        self,
        user_id: str | None = None,
        instruction: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
    ) -> str:
        """Answer a question about a stored user or a given history.

        Args:
            user_id: A stored user.
            instruction: The question; the instruction that the model was trained with if None.
            history: Events, instead of a stored user.

        Returns:
            The generated text.
        """
        return str(self.answers([_question(user_id, instruction, history)])[0]["text"])

    def answers(self, questions: Sequence[Fields]) -> list[dict[str, Any]]:
        """Answer questions such as ``{"user_id": "42"}`` or ``{"history": […], "instruction": "…"}``, in order."""
        answered: list[dict[str, Any]] = self._json(
            "POST", "/answers", **_body({"questions": list(questions)})
        )["answers"]
        return answered

    def ask(
        self,
        question: str,
        user_id: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
        item_ids: Sequence[str] = (),
        categories: Sequence[str] = (),
        k: int = 3,
    ) -> dict[str, Any]:
        """Answer a free-text question about a stored user or a given history.

        Args:
            question: The question; ``{item}`` and ``{category}`` are placeholders for the arguments below.
            user_id: A stored user.
            history: Events, instead of a stored user.
            item_ids: Items of the question, in addition to those that its text names.
            categories: Categories of the question, likewise.
            k: Number of items to recommend, or to advise against.

        Returns:
            The answer's ``text`` and ``source``, the ``kind`` that the question was matched to, ``chances`` and
            ``reasons``.
        """
        asked = _question(user_id, question, history)
        return self.answers([{**asked, "item_ids": list(item_ids), "categories": list(categories), "k": k}])[
            0
        ]

    def explanation(
        self,
        item_id: str,
        user_id: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
        by: str = "next item",
        against: bool = False,
    ) -> dict[str, Any]:
        """Explain the score of an item by ablation: the events and categories whose removal changes it most.

        Args:
            item_id: The item.
            user_id: A stored user.
            history: Events, instead of a stored user.
            by: The score: "next item", or "ratings" for the expected rating.
            against: Whether to list what lowers the score instead of what raises it.
        """
        asked = {**_question(user_id, None, history), "item_id": item_id, "by": by, "against": against}
        return self._json("POST", "/explanations", **_body(asked))

    def stream(
        self,
        user_id: str | None = None,
        instruction: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
    ) -> Iterator[str]:
        """Stream the answer in pieces while it is generated; arguments are those of :meth:`answer`."""
        sent = {"questions": [_question(user_id, instruction, history)], "stream": True}
        with self._streamed("POST", "/answers", **_body(sent)) as response:
            yield from _pieces(response.iter_lines())

    def view(self, user_id: str | None = None, *, history: Sequence[Fields] | None = None) -> dict[str, Any]:
        """Get a user's likes and dislikes by category, from the user encoder and from the label rule."""
        return self._json("POST", "/views", **_body(_question(user_id, None, history)))

    def taste(self, user_id: str | None = None, *, history: Sequence[Fields] | None = None) -> dict[str, Any]:
        """Get a user's taste by category: probabilities or mean ratings with 90% intervals, and their course."""
        return self._json("POST", "/tastes", **_body(_question(user_id, None, history)))

    def example(self) -> dict[str, Any]:
        """Get an example user: a stored ``user_id``, or else a made-up ``history`` of items of the catalogue."""
        return self._json("GET", "/example")

    def attribution(
        self,
        user_id: str | None = None,
        instruction: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
    ) -> dict[str, Any]:
        """Get the answer and its attribution: the drop of its log-probability without each item of the history."""
        return self._json("POST", "/attributions", **_body(_question(user_id, instruction, history)))

    def recommendations(self, users: Sequence[Fields], k: int = 10, **options: Any) -> list[dict[str, Any]]:
        """Recommend items of the catalogue to each user.

        Args:
            users: Users such as ``{"user_id": "42"}`` or ``{"history": […]}``.
            k: Number of items per user.
            **options: ``seen``, ``categories``, ``since`` and ``diversity``, as in
                :meth:`palate.recommend.recommender.Recommender.recommend`.

        Returns:
            For each user the ``items``, best first, each with its ``title`` and its ``share``, a probability among
            the allowed items, and whether the list is ``personal``.
        """
        sent = {"users": list(users), "k": k, **options}
        found: list[dict[str, Any]] = self._json("POST", "/recommendations", **_body(sent))["recommendations"]
        return found

    def recommend(
        self,
        user_id: str | None = None,
        *,
        history: Sequence[Fields] | None = None,
        k: int = 10,
        **options: Any,
    ) -> dict[str, Any]:
        """Recommend items to a stored user or for a given history, see :meth:`recommendations`."""
        return self.recommendations([_question(user_id, None, history)], k, **options)[0]

    def ratings(
        self, users: Sequence[Fields], item_ids: Sequence[str] = (), *, items: Sequence[Fields] = ()
    ) -> list[dict[str, Any]]:
        """Predict each user's ratings of items.

        Args:
            users: Users as for :meth:`recommendations`.
            item_ids: Items of the catalogue.
            items: New items as for :meth:`add_items`, which are not stored.

        Returns:
            For each user the ``items`` in this order, each with its expected ``rating``, the standard deviation
            ``sd`` and the probability ``chance`` of a like.
        """
        sent = {"users": list(users), "item_ids": list(item_ids), "items": list(items)}
        found: list[dict[str, Any]] = self._json("POST", "/ratings", **_body(sent))["ratings"]
        return found

    def rate(
        self,
        item_ids: Sequence[str] = (),
        user_id: str | None = None,
        *,
        items: Sequence[Fields] = (),
        history: Sequence[Fields] | None = None,
    ) -> dict[str, Any]:
        """Predict the ratings of items by a stored user or for a given history, see :meth:`ratings`."""
        return self.ratings([_question(user_id, None, history)], item_ids, items=items)[0]

    def choices(
        self, users: Sequence[Fields], item_ids: Sequence[str] = (), *, items: Sequence[Fields] = ()
    ) -> list[dict[str, Any]]:
        """Predict which of several items each user would choose; arguments are those of :meth:`ratings`."""
        sent = {"users": list(users), "item_ids": list(item_ids), "items": list(items)}
        found: list[dict[str, Any]] = self._json("POST", "/choices", **_body(sent))["choices"]
        return found

    def choose(
        self,
        item_ids: Sequence[str] = (),
        user_id: str | None = None,
        *,
        items: Sequence[Fields] = (),
        history: Sequence[Fields] | None = None,
    ) -> dict[str, Any]:
        """Predict which of several items a stored user, or the user of a given history, would choose."""
        return self.choices([_question(user_id, None, history)], item_ids, items=items)[0]

    def user_prompt(self, user_id: str) -> Floats:
        """Get the user prompt of a user's stored events, [M, E]: M vectors of the backbone's embedding size E."""
        from safetensors.numpy import load

        prompt: Floats = load(self._send("GET", f"{_user(user_id)}/prompt").content)["user_prompt"]
        return prompt

    def items(self, words: str = "", *, item_ids: Sequence[str] = (), most: int = 20) -> list[dict[str, Any]]:
        """Find at most ``most`` items of the catalogue by words of title, year and categories, or items by their ids.

        Returns:
            The ``item_id``, ``title`` and ``categories`` of each item.
        """
        asked = {"words": words, "item_id": list(item_ids), "most": most}
        found: list[dict[str, Any]] = self._json("GET", "/items", params=asked)["items"]
        return found

    def add_items(self, items: Sequence[Fields]) -> int:
        """Add items such as ``{"item_id": "x", "title": "Alien (1979)", "categories": ["Horror"]}``.

        Returns:
            The number of items in the request.
        """
        return int(self._json("POST", "/items", **_body({"items": list(items)}))["items"])

    def delete_items(self, item_ids: Sequence[str]) -> dict[str, int]:
        """Delete items that were added, and all users' events about them.

        Returns:
            The numbers of deleted ``items`` and ``events``.
        """
        return self._json("DELETE", "/items", params={"item_id": list(item_ids)})

    def model(self) -> dict[str, Any]:
        """Get the model's card and identity, the recommender's facts, and the server's limits."""
        return self._json("GET", "/model")

    def ready(self) -> bool:
        """Return whether the server is reachable and ready to answer."""
        try:
            return self._http.get("/ready").is_success
        except httpx.HTTPError:
            return False

    @contextmanager
    def _streamed(self, method: str, path: str, **content: Any) -> Iterator[httpx.Response]:
        """Send a request whose response is read as a stream."""
        try:
            with self._http.stream(method, path, **content) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield response
        except httpx.TransportError as error:
            raise _unreachable(error) from error

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._send(method, path, **content).json()
        return found

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        for left in reversed(range(self.tries)):
            wait = 1.0
            try:
                response = self._http.request(method, path, **content)
            except httpx.TransportError as error:
                if not left:
                    raise _unreachable(error) from error
            else:
                if response.is_success:
                    return response
                if response.status_code not in _LATER or not left:
                    raise _error(response)
                wait = _seconds(response.headers.get("Retry-After"), wait)
            time.sleep(wait)
        raise ValueError(f"tries is {self.tries}, expected at least 1")


def _seconds(retry_after: str | None, otherwise: float) -> float:
    """Parse a Retry-After header, in seconds or as an HTTP date, into seconds of at most :data:`LONGEST_WAIT`."""
    if retry_after is None:
        return otherwise
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError):
            return otherwise
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else otherwise


def _unreachable(error: httpx.TransportError) -> PalateError:
    reason = str(error) or type(error).__name__
    return PalateError(f"the server cannot be reached ({reason}); is palate serve running?")


def _question(
    user_id: str | None, instruction: str | None, history: Sequence[Fields] | None
) -> dict[str, Any]:
    question = {
        "user_id": user_id,
        "history": None if history is None else list(history),
        "instruction": instruction,
    }
    return {name: value for name, value in question.items() if value is not None}


def _body(content: Any) -> dict[str, Any]:
    return {"content": _text(content), "headers": {"Content-Type": "application/json"}}


def _text(content: Any) -> str:
    return json.dumps(content, default=_written)


def _written(value: Any) -> Any:
    """Convert values that JSON has no type for: times to ISO text, NumPy scalars to numbers."""
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise PalateError(f"{shown(value)} cannot be sent; expected text, numbers, times, and lists of such")


def _user(user_id: str) -> str:
    return f"/users/{quote(user_id, safe='')}"


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """Extract the text of ``piece`` events from server-sent events."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data" and name == "piece":
            yield str(json.loads(value)["text"])
        elif field == "data" and name == "error":
            raise ServerError(500, json.loads(value)["detail"])


def _error(response: httpx.Response) -> ServerError:
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.text[:200]
    return ServerError(response.status_code, detail)
