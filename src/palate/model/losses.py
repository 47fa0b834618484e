"""Fourth layer of the model class: training losses of answers and of the user encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from palate.encoders.base import UserPrompt
from palate.encoders.batch import WindowTensors
from palate.encoders.catalogue_free import UniversalEncoder
from palate.errors import MismatchError
from palate.model.answering import AnsweringModel
from palate.model.asking import Asked
from palate.model.generation import Round, cross_entropy, score
from palate.model.token_sample import TokenSample, scoring

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TrainableModel(AnsweringModel):
    """Model that computes losses from windows, questions and targets."""

    def forward(self, prepared: Mapping[str, Tensor] | None = None, **asked: Any) -> dict[str, Any]:
        """Compute the training loss.

        Args:
            prepared: Precomputed inputs of :meth:`UniversalEncoder.view`, instead of windows and questions. The loss
                is then 0.
            asked: Otherwise, the arguments of :meth:`answer_loss`.

        Returns:
            ``loss``, the user prompt ``user``, and the further values of :meth:`answer_loss`.
        """
        if prepared is None:
            return self.answer_loss(**asked)
        user: UserPrompt = cast(UniversalEncoder, self.user_encoder).view(**prepared)
        return {"loss": self.task_prompt.new_zeros(()), "user": user}

    def answer_loss(
        self,
        rounds: Sequence[Round],
        user_encoder_alone: bool = False,
        answered: Callable[[UserPrompt], Sequence[Round]] | None = None,
        sampled: Callable[[Sequence[Round]], TokenSample | None] | None = None,
        **windows: Unpack[WindowTensors],
    ) -> dict[str, Any]:
        """Compute the loss of answers about windows.

        Each round holds one question per user, and the loss is the mean over the rounds; a decoder-only backbone
        prefills the prefix of a user's questions once.

        Args:
            rounds: Questions and targets.
            user_encoder_alone: Whether to skip the backbone; the loss is then 0.
            answered: Computes the rounds from the user prompt, instead of ``rounds``.
            sampled: Selects the tokens for sampled softmax; None for the full vocabulary.
            **windows: The windows.

        Returns:
            ``loss``, the cross entropy of the targets, with the user prompt, the scores and the sampled tokens.
        """
        user = self.like_tokens(self.user_encoder(self.catalogue(**windows)))
        if user_encoder_alone:
            return {
                "loss": user.embeddings.new_zeros(()),
                "user": replace(user, embeddings=user.embeddings.detach()),
            }
        if answered is not None:
            rounds = answered(user)
        sample = None if sampled is None else sampled(rounds)
        with scoring(self.backbone, sample):
            scores = self._scores(user, rounds)
        losses = [cross_entropy(*scored, sample, one) for scored, one in zip(scores, rounds, strict=True)]
        return {"loss": torch.stack(losses).mean(), "user": user, "scores": scores, "sample": sample}

    def category_logits(self, user: UserPrompt) -> Tensor:
        """Return the user encoder's logits [B, L, 2] that each label is liked and disliked.

        Raises:
            MismatchError: The user encoder does not predict labels.
        """
        if user.category_logits is None:
            raise MismatchError(
                f"train.auxiliary_weight needs a user encoder that predicts categories, and "
                f"{self.settings.user_encoder.kind!r} does not; set train.auxiliary_weight=0"
            )
        return user.category_logits

    def category_loss(self, user: UserPrompt, liked: Tensor, disliked: Tensor) -> Tensor:
        """Compute the auxiliary loss: the binary cross entropy of :meth:`category_logits`.

        Args:
            user: Encoded users.
            liked: True liked labels, [B, L].
            disliked: True disliked labels, [B, L].

        Returns:
            The mean loss.

        Raises:
            MismatchError: The user encoder does not predict labels.
        """
        logits = self.category_logits(user)
        truth = torch.stack([liked, disliked], dim=-1).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, truth)

    def _scores(self, user: UserPrompt, rounds: Sequence[Round]) -> list[tuple[Tensor, Tensor]]:
        """Compute the logits and labels of each round's targets."""
        prefix = self._prefix(user) if self._shares_prefix(rounds) else None
        scores = []
        for one in rounds:
            asked, target = Asked.of_round(one), (one["target"], one["target_mask"])
            prompt = self._inject(user, asked) if prefix is None else self._after(prefix, asked)
            scores.append(score(self.backbone, self.frame, prompt, *target, prefix))
        return scores

    def _shares_prefix(self, rounds: Sequence[Round]) -> bool:
        """Return whether to prefill a prefix: with several questions per user, or without gradients in it."""
        several = len(rounds) > 1 or (self.reads_text and self.settings.user_first)
        if self.frame is None or self.conditioning is not None or not several:
            return False
        # gradient checkpointing excludes a KV cache
        return not any(getattr(layer, "gradient_checkpointing", False) for layer in self.backbone.modules())
