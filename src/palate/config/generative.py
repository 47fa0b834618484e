"""Settings of generative recommenders, P5 and POD, whose input and output are item ids as text."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from palate.config.section import Section

IdKind: TypeAlias = Literal["sequential", "random", "collaborative", "leaking"]
Family: TypeAlias = Literal["sequential", "direct", "rating", "explanation", "review", "categories"]
"""A family of tasks, each with several prompts."""


def _ranking() -> dict[Family, float]:
    """Return the default proportions of families: those that rank items."""
    return {"sequential": 1.0, "direct": 1.0}


class GenerativeSettings(Section):
    """Settings shared by P5 and POD; backbone and optimizer are set by ``model.backbone`` and ``train``."""

    ids: IdKind = "sequential"
    """Item numbering: by first appearance in the training interactions, at random, by recursive spectral clustering of
    training co-occurrence, or the data's own numbers (``leaking``), for controls."""
    families: dict[Family, Annotated[float, Field(gt=0)]] = Field(default_factory=_ranking)
    """Proportions of the families of tasks in training."""
    max_history: int = Field(20, ge=1)
    """Maximum number of a history's newest items in a prompt."""
    candidates: int = Field(20, ge=1)
    """Number of negative items among the candidates of a prompt, in training."""
    anonymous_share: float = Field(0.2, ge=0, lt=1)
    """Fraction of the training examples with the user's history in place of the user id, as in prompts about users who
    were not trained on."""
    number_steps: int = Field(0, ge=0)
    """Number of steps of a pretraining on counting before the training: prompts list random runs of numbers in the
    format of item ids, without any data of users. For a T5 from random weights, which does not know that 13 follows
    12."""
    number_share: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training batches that go on with counting, so that it is not forgotten."""
    number_learning_rate: float | None = Field(None, gt=0)
    """Learning rate of the pretraining on counting; ``train.learning_rate`` if None."""
    max_text_tokens: int = Field(24, ge=1)
    """Maximum length of generated text, such as an explanation, in tokens; training texts are truncated to it."""
    whole_words: int = Field(512, ge=1)
    """Number of whole-word embeddings, which all tokens of a word share; later words share the last one."""
    cluster_size: int = Field(100, ge=2)
    """Maximum size of a cluster of collaborative ids; larger ones are divided."""
    clusters: int = Field(20, ge=2)
    """Number of clusters per division."""

    @field_validator("families")
    @classmethod
    def _some(cls, families: dict[Family, float]) -> dict[Family, float]:
        if not families:
            raise ValueError("needs at least one family, such as {sequential: 1}")
        return families


class P5Settings(GenerativeSettings):
    """P5: one T5 for a mix of families of prompts (Geng et al., 2022)."""

    kind: Literal["p5"] = "p5"


class PODSettings(GenerativeSettings):
    """POD: P5 with learned prompt vectors per family, and batches of one family in turn (Li et al., 2023)."""

    kind: Literal["pod"] = "pod"
    prompt_vectors: int = Field(3, ge=1)
    """Number of learned prompt vectors per family."""


AnyGenerativeSettings = Annotated[P5Settings | PODSettings, Field(discriminator="kind")]
