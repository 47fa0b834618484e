"""What a model is trained by: the loss of its answers, and that of its user encoder."""

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
    """Windows, questions and targets to losses."""

    def forward(self, prepared: Mapping[str, Tensor] | None = None, **asked: Any) -> dict[str, Any]:
        """Compute the training loss.

        Args:
            prepared: What the user encoder has computed of its windows already, in the place of windows and questions:
                the arguments of :meth:`UniversalEncoder.view`. The loss is then 0.
            asked: Otherwise, the arguments of :meth:`answer_loss`.

        Returns:
            ``loss``, with the user prompt ``user``, and what else :meth:`answer_loss` returns.
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

        Each user is asked one question per round, and the loss is the mean over the rounds; a decoder-only backbone
        prefills the prefix of a user's questions once.

        Args:
            rounds: Questions and targets.
            user_encoder_alone: Skip the backbone; the loss is then 0.
            answered: Computes the rounds from the user prompt, instead of ``rounds``.
            sampled: Selects the tokens that targets are scored against; all if None.
            **windows: The windows.

        Returns:
            ``loss``, the cross entropy of the targets, with the user prompt and what the trainer needs of the scores.
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
        losses = [cross_entropy(logits, labels, sample) for logits, labels in scores]
        return {"loss": torch.stack(losses).mean(), "user": user, "scores": scores, "sample": sample}

    def category_logits(self, user: UserPrompt) -> Tensor:
        """Return the user encoder's logits that each label is liked and disliked, [B, L, 2].

        Raises:
            MismatchError: The user encoder has no such logits.
        """
        if user.category_logits is None:
            raise MismatchError(
                f"train.auxiliary_weight needs a user encoder with a view of its own, and "
                f"{self.settings.user_encoder.kind!r} has none; set train.auxiliary_weight=0"
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
            MismatchError: The user encoder has no such logits.
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
        """Return whether the prefix is prefilled once: if it has several questions or needs no gradients."""
        several = len(rounds) > 1 or (self.reads_text and self.settings.user_first)
        if self.frame is None or self.conditioning is not None or not several:
            return False
        # a cache and activations that are computed twice exclude each other
        return not any(getattr(layer, "gradient_checkpointing", False) for layer in self.backbone.modules())
