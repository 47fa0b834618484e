"""Sampled softmax: selection of the tokens that answers are scored against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.errors import RecipeError
from palate.model.generation import Round
from palate.model.prompt import IGNORED
from palate.model.token_sample import TokenSample

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

EXACT_EVERY = 50
"""Steps between full softmax steps, in which the likely tokens are updated."""
LIKELY = 1024
"""Number of tokens that are always sampled besides the answers' own: the most probable of the last full step."""


class TokenSampler:
    """Draws the sample of a step as a function of the seed, the step and the likely tokens.

    The most probable tokens have almost all of the probability mass, so that the remainder, which the random tokens
    represent, is small and well estimated.
    """

    def __init__(self, count: int, vocabulary: int, always: Sequence[int], seed: int) -> None:
        self.count, self.vocabulary, self.seed = count, vocabulary, seed
        self.always = torch.tensor([*always])
        self.likely: list[int] = []

    @classmethod
    def of(cls, model: PersonalizedModel, count: int, seed: int) -> TokenSampler:
        """Create a model's sampler; raises :class:`RecipeError` unless it is decoder-only and not fully trained."""
        if model.frame is None or model.settings.backbone is None:
            raise RecipeError(
                "train.sampled_tokens needs a decoder-only backbone that is not fully trained; set it to 0, or "
                "model.backbone.train to frozen or lora"
            )
        vocabulary = model.backbone.get_output_embeddings().weight.shape[0]
        return cls(count, vocabulary, [model.frame.end], seed)

    def draw(self, step: int, rounds: Sequence[Round]) -> TokenSample | None:
        """Draw the sample of a step for the targets of its rounds; None for all tokens."""
        if step % EXACT_EVERY == 0 or not self.likely:
            return None
        device = rounds[0]["target"].device
        targets = [one["target"].flatten().cpu() for one in rounds]
        targets += [one["choice"].flatten().cpu() for one in rounds if "choice" in one]
        kept = _distinct(torch.cat([*targets, self.always, torch.tensor(self.likely)]))
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        drawn = _distinct(torch.randint(self.vocabulary, (self.count,), generator=generator))
        drawn = drawn[~torch.isin(drawn, kept)]
        ids, order = torch.cat([kept, drawn]).sort()
        stands_for = max(self.vocabulary - len(kept), 1) / max(len(drawn), 1)
        offset = torch.cat([torch.zeros(len(kept)), torch.full((len(drawn),), math.log(stands_for))])
        return TokenSample(ids.to(device), offset[order].to(device))

    @torch.no_grad()
    def learn(self, logits: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        """Update the likely tokens from the rounds of a full step: logits [B, N', V] and labels [B, N'] of each."""
        total = sum(
            one.detach()[scored != IGNORED].float().softmax(dim=-1).sum(dim=0)
            for one, scored in zip(logits, labels, strict=True)
        )
        assert isinstance(total, Tensor)
        self.likely = total.topk(min(LIKELY, len(total))).indices.tolist()


def _distinct(tokens: Tensor) -> Tensor:
    found: Tensor = torch.unique(tokens)
    return found
