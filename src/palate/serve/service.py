"""A worker's parts, put together: the model, the user store, and the line of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.errors import DataError
from palate.serve import metrics
from palate.serve.batcher import Batcher, Question
from palate.serve.catalogue import Catalogue
from palate.serve.engine import ServedModel
from palate.serve.explainer import Explainer
from palate.serve.schemas import GivenAnswer, SentQuestion
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.store import UserStore
from palate.serve.users import Users


@dataclass(frozen=True)
class Prepared:
    """A question whose user prompt is made, and the stored history that it is about."""

    question: Question
    user_id: str | None
    version: int | None

    def given(self, text: str) -> GivenAnswer:
        """The answer with what it was given for."""
        return GivenAnswer(
            user_id=self.user_id, version=self.version, instruction=self.question.instruction, text=text
        )


class Service:
    """Everything that the routes call."""

    def __init__(self, settings: ServeSettings) -> None:
        self.limits: Limits = settings.limits
        self.log_content = settings.log_content
        self.served = ServedModel(settings.run, settings.backbone)
        self.store = UserStore(settings.store)
        self.users = Users(self.served, self.store)
        catalogue = Catalogue(settings.run, self.served.model.settings, settings.data)
        self.explainer = Explainer(self.users, catalogue, self.limits)
        self.batcher = Batcher(self.served.model, self.limits, metrics.batches.observe)

    def close(self) -> None:
        """Answer what waits, and close the store."""
        self.batcher.stop()
        self.store.close()

    def prepare(self, sent: Sequence[SentQuestion]) -> list[Prepared]:
        """Make the user prompts that questions need.

        Raises :class:`UnknownUserError`, and :class:`DataError` for a question that is too long or whose history the
        model cannot read.
        """
        self.check_length("questions", len(sent), self.limits.questions)
        return [self._prepared(number, question) for number, question in enumerate(sent)]

    def check_length(self, name: str, found: int, most: int) -> None:
        """Raise :class:`DataError` for more than a request may hold."""
        if found > most:
            raise DataError(f"{name}: found {found:,}, expected at most {most:,}; send them in parts")

    def _prepared(self, number: int, sent: SentQuestion) -> Prepared:
        self.limits.check_question(sent, f"questions.{number}.")
        instruction = sent.instruction or self.served.model.settings.instruction
        if sent.user_id is not None:
            kept, source = self.users.encoded(sent.user_id)
            metrics.prompts.labels(source).inc()
            return Prepared(Question(self.served.prompt_from(kept), instruction), sent.user_id, kept.version)
        history, items = self.users.given(sent.history or [])
        return Prepared(Question(self.served.prompt_of(history, items), instruction), None, None)
