"""Settings of recommenders that read and write ids as text: P5 and POD."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from palate.config.section import Section

IdKind: TypeAlias = Literal["sequential", "random", "collaborative", "leaking"]
Family: TypeAlias = Literal["sequential", "direct", "rating", "explanation", "review", "categories"]
"""A kind of task with several prompts."""


def _ranking() -> dict[Family, float]:
    """Families that rank items."""
    return {"sequential": 1.0, "direct": 1.0}


class GenerativeSettings(Section):
    """What P5 and POD have in common; the backbone and the optimizer are the recipe's."""

    ids: IdKind = "sequential"
    """How items are numbered: by first appearance in the training interactions, at random, by recursive spectral
    clusters of training co-occurrence, or by the data's own numbers (``leaking``), which a control may need."""
    families: dict[Family, Annotated[float, Field(gt=0)]] = Field(default_factory=_ranking)
    """Proportions of the families of tasks in training."""
    max_history: int = Field(20, ge=1)
    """How many of a history's newest items stand in a prompt."""
    candidates: int = Field(20, ge=1)
    """Items that a prompt offers beside the right one, in training."""
    anonymous_share: float = Field(0.2, ge=0, lt=1)
    """Share of the training examples that name no user id but what the user chose, as it is asked about users whom
    nothing was learned of."""
    max_text_tokens: int = Field(24, ge=1)
    """Longest text that is written, such as an explanation; training texts are cut there."""
    whole_words: int = Field(512, ge=1)
    """Words of a prompt with an embedding of their own, which all tokens of the word share; later ones share the
    last."""
    cluster_size: int = Field(100, ge=2)
    """Largest cluster of collaborative ids that is not divided further."""
    clusters: int = Field(20, ge=2)
    """Parts that it is divided into."""

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
    """POD: learned vectors for each family before the prompt, and batches of one family after the other (2023)."""

    kind: Literal["pod"] = "pod"
    prompt_vectors: int = Field(3, ge=1)
    """Learned vectors for each family."""


AnyGenerativeSettings = Annotated[P5Settings | PODSettings, Field(discriminator="kind")]
