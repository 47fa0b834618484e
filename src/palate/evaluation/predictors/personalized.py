"""Predictor of a trained model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palate.evaluation.predictors.shards import BatchOfWindows, SavedModel, mixed_precision

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.encoders.base import UserPrompt
    from palate.model.model import PersonalizedModel
    from palate.schema import Bools, Doubles, Ints, Truth, WindowKind, Windows
    from palate.system.engines import ShardEngine


class PersonalizedPredictor:
    """Predicts with a :class:`PersonalizedModel`, in batches of windows of similar length.

    Args:
        model: Model that answers.
        name: Name in tables and files.
        batch_size: Maximum number of windows per batch.
        dataset: Dataset on whose training users a model without a catalogue is calibrated.
        kind: Kind of windows for that calibration.
        batch_tokens: Maximum number of input vectors per batch, padding included; a longer window is a batch alone.
            None for no limit.
        bf16: Compute in bfloat16 mixed precision, as the model was trained.
    """

    def __init__(
        self,
        model: PersonalizedModel,
        name: str,
        batch_size: int = 128,
        dataset: Dataset | None = None,
        kind: WindowKind = "random",
        batch_tokens: int | None = None,
        bf16: bool = False,
    ) -> None:
        self.model, self.name, self.batch_size, self._dataset = model, name, batch_size, dataset
        self._kind, self.batch_tokens, self.bf16 = kind, batch_tokens, bf16
        self._of_truth: dict[Truth, PersonalizedPredictor] = {"labels": self}
        self.engine: ShardEngine | None = None
        """Engine that distributes batches over processes; None answers in this process."""
        self.backbone: str | None = None
        """Folder of a backbone that is not saved with the model, for the engine's processes."""
        self._saved: tuple[ShardEngine, SavedModel] | None = None

    @classmethod
    def by_recipe(
        cls,
        model: PersonalizedModel,
        name: str,
        recipe: Recipe,
        dataset: Dataset | None = None,
        kind: WindowKind = "random",
    ) -> PersonalizedPredictor:
        """Build a model's predictor with the batch sizes and precision of its recipe."""
        asked = recipe.evaluate
        return cls(model, name, asked.batch_size, dataset, kind, asked.batch_tokens, bf16=recipe.train.bf16)

    def with_model(self, model: PersonalizedModel) -> PersonalizedPredictor:
        """Return the predictor of another model, otherwise like this one."""
        other = copy(self)
        other.model, other._of_truth, other._saved = model, {"labels": other}, None
        return other

    def with_truth(self, truth: Truth) -> PersonalizedPredictor:
        """Return the predictor calibrated on labels of this truth, or this one if its model is not calibrated."""
        if self._dataset is None or not self.model.settings.binds:
            return self
        if truth not in self._of_truth:
            summary = self.model.summarised(self._dataset, truth=truth, kind=self._kind)
            other = self.with_model(self.model.with_summary(summary))
            other._of_truth = self._of_truth
            self._of_truth[truth] = other
        return self._of_truth[truth]

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer per window; ``user_index`` [B] is ignored, so that unseen users are treated alike."""
        answers = [""] * len(windows)
        for rows, some in self._answered(windows):
            for row, answer in zip(rows, some, strict=True):
                answers[row] = answer
        return answers

    def _answered(self, windows: Windows) -> Iterator[tuple[Ints, list[str]]]:
        """Answer windows in batches; yields the rows of each batch and their answers."""
        batches = [(rows, windows[rows].trimmed()) for rows in self._batches(windows)]
        if self.engine is None:
            for rows, some in batches:
                with mixed_precision(self.model, self.bf16):
                    yield rows, self.model.answer(some)
            return
        saved = self._saved_for(self.engine)
        yield from self.engine.run([BatchOfWindows(saved, self.bf16, *batch) for batch in reversed(batches)])

    def _saved_for(self, engine: ShardEngine) -> SavedModel:
        """Save the model, once per engine, in a folder that is removed when the engine stops."""
        if self._saved is None or self._saved[0] is not engine:
            # in the working directory, which all nodes see
            folder = tempfile.TemporaryDirectory(prefix=".palate-", dir=Path.cwd())
            place = Path(engine.resources.enter_context(folder)) / "model"
            self.model.save_pretrained(place)
            saved = SavedModel(place, self.backbone, str(self.model.device), self.model.constrained)
            self._saved = engine, saved
        return self._saved[1]

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles | None:
        """Predict the user encoder's probabilities of the labels, [B, L, 2]; None if it has none."""
        chances = np.zeros((len(windows), len(self.model.settings.categories), 2))
        for rows, user in self.encoded(windows):
            if (found := user.category_chances) is None:
                return None
            chances[rows] = found
        return chances

    def expected_f1(self, windows: Windows, named: Bools, most: int) -> Doubles | None:
        """Estimate the F1 of answers that name liked labels [B, L], [B]; None if the user encoder cannot."""
        expected = np.zeros(len(windows))
        for rows, user in self.encoded(windows):
            if (found := user.expected_f1(named[rows], most)) is None:
                return None
            expected[rows] = found
        return expected

    def prompt_lengths(self, windows: Windows) -> Ints:
        """Count the user-prompt vectors of each window, [B]."""
        lengths = np.zeros(len(windows), dtype=np.int64)
        for rows, user in self.encoded(windows):
            lengths[rows] = user.mask.sum(dim=1).cpu()
        return lengths

    def encoded(self, windows: Windows) -> Iterator[tuple[Ints, UserPrompt]]:
        """Encode windows [B] in batches; yields the rows of each batch and their user prompts."""
        from torch import inference_mode  # already loaded by the model

        for rows in self._batches(windows):
            with inference_mode(), mixed_precision(self.model, self.bf16):
                user = self.model.user_prompt(windows[rows].trimmed())
            yield rows, user

    def _batches(self, windows: Windows) -> Iterator[Ints]:
        lengths = self.model.input_lengths(windows) if self.batch_tokens else windows.length
        order = np.argsort(lengths, kind="stable")
        start = 0
        for end in range(1, len(order) + 1):
            full = end == len(order) or end - start == self.batch_size
            if not full and self.batch_tokens:
                full = (end + 1 - start) * lengths[order[end]] > self.batch_tokens
            if full:
                yield order[start:end]
                start = end
