"""The composed model: item table, user encoder, task prompt and backbone, answering for users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor, nn
from torch.nn import functional

from palate.config import TaskSettings, TextSettings, UserEncoderSettings
from palate.errors import DataError, MismatchError, first_fault
from palate.files import fresh_folder, write_text
from palate.items.blocks import BlockTable
from palate.items.encoder import EncoderIdentity
from palate.items.table import ItemTable
from palate.model.backbone import Backbone, generation_settings, rebuild_t5
from palate.model.card import model_card
from palate.model.events import Catalogue, EventBatch, window_tensors, windows_of
from palate.model.inject import Prompt, inject, mask_labels
from palate.model.text_history import BlockCatalogue, TextBatch, TextHistory
from palate.model.user_encoder import EncoderSizes, UserPrompt, build_user_encoder
from palate.schema import History, Windows

Table: TypeAlias = ItemTable | BlockTable
CONFIG, WEIGHTS, BACKBONE, ITEMS, CARD = "config.json", "model.safetensors", "backbone", "items", "README.md"


class TokenStreamer(Protocol):
    """Is told of an answer while it is written."""

    def put(self, value: Tensor) -> None:
        """The next token of each of B answers, [B]; at first what the decoder starts from, [B, 1]."""

    def end(self) -> None:
        """All answers have come to their end."""


class PersonalizedSettings(BaseModel):
    """What ``config.json`` of a saved model holds: what is needed to build it again, and what it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["palate"] = "palate"
    format: Literal[1] = 1
    user_encoder: UserEncoderSettings
    task_prompt: int
    window: int
    """Most recent interactions that the model reads of a history."""
    most_new_tokens: int
    """Longest answer."""
    instruction: str
    task: TaskSettings
    category_field: str
    categories: tuple[str, ...]
    data_name: str
    data_fingerprint: str


class PersonalizedModel(nn.Module):
    """G(Z) with Z = [K; U_e; I_e]: a backbone that reads a user prompt before the instruction.

    ``table`` holds the items that histories may name: their vectors, from the encoder that the model was trained
    with, or their blocks where the history is read as text.
    """

    def __init__(self, settings: PersonalizedSettings, backbone: Backbone, table: Table) -> None:
        super().__init__()
        self.settings = settings
        self.tokenizer = backbone.tokenizer
        self.backbone = backbone.model
        self.table = table
        self.catalogue = self._catalogue(table)
        embedding = self.backbone.get_input_embeddings().weight  # [V, E]
        if isinstance(settings.user_encoder, TextSettings):
            self.user_encoder: nn.Module = TextHistory(self.backbone.get_input_embeddings)
        else:
            assert isinstance(table, ItemTable)
            fields, labels = table.vectors.shape[1], len(settings.categories)
            sizes = EncoderSizes(fields, table.size, embedding.shape[1], labels)
            self.user_encoder = build_user_encoder(settings.user_encoder, sizes)
        words = torch.randint(len(self.tokenizer), (settings.task_prompt,))
        self.task_prompt = nn.Parameter(embedding.detach()[words].clone())  # [K, E], from random words

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.task_prompt.device

    def forward(
        self,
        unique: Tensor,
        item: Tensor,
        rating: Tensor,
        mask: Tensor,
        time: Tensor,
        instruction: Tensor,
        instruction_mask: Tensor,
        target: Tensor,
        target_mask: Tensor,
        user_encoder_alone: bool = False,
        targets_for: Callable[[UserPrompt], tuple[Tensor, Tensor]] | None = None,
    ) -> dict[str, Any]:
        """Cross entropy of the targets, as ``loss``, with the user prompt that it was reached with.

        ``unique`` [N], ``item``, ``rating``, ``mask`` and ``time`` [B, P] are the arguments of :class:`Catalogue`,
        ``instruction`` [B, T] and ``target`` [B, N'] token ids, each with its mask. With ``user_encoder_alone`` the
        backbone is not asked, and the loss is 0. ``targets_for`` makes targets and their mask from the user prompt,
        in the place of ``target`` and ``target_mask``.
        """
        user = self.user_encoder(self.catalogue(unique, item, rating, mask, time))
        if user_encoder_alone:
            return {
                "loss": user.embeddings.new_zeros(()),
                "user": replace(user, embeddings=user.embeddings.detach()),
            }
        if targets_for is not None:
            target, target_mask = targets_for(user)
        prompt = self._inject(user, instruction, instruction_mask)
        labels = mask_labels(target, target_mask)
        output = self.backbone(
            inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, labels=labels, use_cache=False
        )
        return {"loss": output.loss, "user": user, "logits": output.logits}

    def prompt(self, windows: Windows, instruction: str | None = None) -> Prompt:
        """Z for each window: [B, N, E] with its mask."""
        return self._inject(
            self._user_prompt(windows), *self._tokens([instruction or self.settings.instruction])
        )

    @torch.inference_mode()
    def answer(self, windows: Windows, instruction: str | None = None) -> list[str]:
        """One greedy answer for each of B windows, whose indices point into :attr:`table`."""
        return self._answer(self.prompt(windows, instruction)) if len(windows) else []

    @torch.inference_mode()
    def generate_from(
        self,
        user_prompts: Tensor | Sequence[Tensor],
        instruction: str | Sequence[str] | None = None,
        streamer: TokenStreamer | None = None,
    ) -> list[str]:
        """One greedy answer for each user prompt, of [B, M, E] or of B different lengths [M, E].

        So a prompt that was stored, or that a user encoder made from a state, is asked like a history. The
        instruction is the same for all, or each has its own; a ``streamer`` is told of the tokens as they come.
        """
        if not len(user_prompts):
            return []
        asked = (
            [instruction or self.settings.instruction] if isinstance(instruction, str | None) else instruction
        )
        return self._answer(self._inject(UserPrompt.of(user_prompts), *self._tokens(asked)), streamer)

    def events(self, histories: Sequence[History], table: Table | None = None) -> EventBatch | TextBatch:
        """All interactions of B histories, however long, as a user encoder reads them.

        ``table`` stands in the place of the model's own. Raises :class:`DataError` for items that are not in it and
        ratings that are not on its scale.
        """
        return self._events(windows_of(histories, self.table if table is None else table), table)

    @torch.inference_mode()
    def user_prompts(self, histories: Sequence[History], table: Table | None = None) -> list[Tensor]:
        """The user prompts [M, E] that :meth:`generate` reads, each as long as it is, for :meth:`generate_from`.

        Raises what :meth:`events` raises.
        """
        windows = windows_of(histories, self.table if table is None else table, self.settings.window)
        user: UserPrompt = self.user_encoder(self._events(windows, table))
        return [prompt[mask] for prompt, mask in zip(user.embeddings, user.mask, strict=True)]

    def _answer(self, prompt: Prompt, streamer: TokenStreamer | None = None) -> list[str]:
        token_ids = self.backbone.generate(
            inputs_embeds=prompt.embeddings,
            attention_mask=prompt.mask,
            streamer=streamer,
            **generation_settings(self.settings.most_new_tokens),
        )
        answers: list[str] = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        return answers

    def generate(self, histories: Sequence[History], instruction: str | None = None) -> list[str]:
        """One greedy answer for each history; only its ``settings.window`` most recent interactions are read.

        Raises :class:`DataError` for items that are not in :attr:`table` and ratings that are not on its scale.
        """
        return self.answer(windows_of(histories, self.table, self.settings.window), instruction)

    @torch.inference_mode()
    def encode_users(self, histories: Sequence[History]) -> Tensor:
        """User prompts [B, M, E], what another server can be fed; zeros where a user has fewer than M."""
        user = self._user_prompt(windows_of(histories, self.table, self.settings.window))
        return user.embeddings * user.mask[..., None]

    def with_table(self, table: Table) -> PersonalizedModel:
        """Let this model read histories over another catalogue; raises :class:`MismatchError` if it cannot."""
        if _made_by(table) != _made_by(self.table):
            raise MismatchError(
                f"the model was trained on {_described(self.table)}, and the new table holds {_described(table)}; "
                "make it as the model's was made"
            )
        if not np.array_equal(table.rating_values, self.table.rating_values):
            raise MismatchError(
                f"the model knows the ratings {_listed(self.table.rating_values)}, the new table has "
                f"{_listed(table.rating_values)}; use data on the same scale"
            )
        self.table = table
        self.catalogue = self._catalogue(table).to(self.device)
        return self

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config, weights, backbone config, tokenizer, item table and model card, all or nothing."""
        with fresh_folder(folder) as place:
            write_text(place / CONFIG, self.settings.model_dump_json(indent=2) + "\n")
            write_text(place / CARD, model_card(self))
            self.save_weights(place / WEIGHTS)
            self.backbone.config.save_pretrained(place / BACKBONE)
            self.tokenizer.save_pretrained(place / BACKBONE)
            self.table.save(place / ITEMS)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> PersonalizedModel:
        """Load what :meth:`save_pretrained` wrote; raises :class:`DataError` when it is not whole."""
        folder = Path(folder)
        config = read_config(folder / CONFIG)
        as_text = isinstance(config.user_encoder, TextSettings)
        table = (BlockTable if as_text else ItemTable).load(folder / ITEMS)
        model = cls(config, rebuild_t5(folder / BACKBONE), table)
        model.load_weights(folder / WEIGHTS)
        return model.eval()

    def save_weights(self, path: Path) -> None:
        """Write the weights alone, as safetensors; tied ones once."""
        save_weights(self, str(path))

    def load_weights(self, path: Path) -> None:
        """Read what :meth:`save_weights` wrote into this model."""
        try:
            load_weights(self, str(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"not the weights of this model ({reason}); copy the model again", path
            ) from error

    def category_logits(self, user: UserPrompt) -> Tensor:
        """The user encoder's own view, liked and disliked, [B, L, 2].

        Raises :class:`MismatchError` for a user encoder that has no such view.
        """
        if user.category_logits is None:
            raise MismatchError(
                f"train.auxiliary needs a user encoder with a view of its own, and "
                f"{self.settings.user_encoder.kind!r} has none; set train.auxiliary=0"
            )
        return user.category_logits

    def category_loss(self, user: UserPrompt, liked: Tensor, disliked: Tensor) -> Tensor:
        """Binary cross entropy of the user encoder's own view against the truth, both [B, L].

        Raises what :meth:`category_logits` raises.
        """
        logits = self.category_logits(user)
        truth = torch.stack([liked, disliked], dim=-1).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, truth)

    def _catalogue(self, table: Table) -> Catalogue | BlockCatalogue:
        settings = self.settings.user_encoder
        if isinstance(table, BlockTable):
            assert isinstance(settings, TextSettings)
            return BlockCatalogue(table, self.tokenizer, settings.most_tokens)
        return Catalogue(table)

    def _events(self, windows: Windows, table: Table | None = None) -> EventBatch | TextBatch:
        catalogue = self.catalogue if table is None else self._catalogue(table).to(self.device)
        events: EventBatch | TextBatch = catalogue(
            **{name: tensor.to(self.device) for name, tensor in window_tensors(windows).items()}
        )
        return events

    def _user_prompt(self, windows: Windows) -> UserPrompt:
        user: UserPrompt = self.user_encoder(self._events(windows))
        return user

    def _tokens(self, instructions: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(list(instructions), padding=True, return_tensors="pt")
        return tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)

    def _inject(self, user: UserPrompt, instruction: Tensor, instruction_mask: Tensor) -> Prompt:
        batch = len(user.embeddings)
        embedded = self.backbone.get_input_embeddings()(instruction).expand(batch, -1, -1)  # [B, T, E]
        return inject(self.task_prompt, user, embedded, instruction_mask.expand(batch, -1))


def load_model(run: Path | str) -> PersonalizedModel:
    """The trained model of a run's folder, or of a folder that ``save_pretrained`` wrote."""
    return PersonalizedModel.from_pretrained(model_folder(run))


def model_folder(run: Path | str) -> Path:
    """Where the model of a run is, which may be the folder itself."""
    folder = Path(run)
    return folder / "model" if (folder / "model").is_dir() else folder


def read_config(path: Path) -> PersonalizedSettings:
    """What ``config.json`` of a saved model holds; raises :class:`DataError` when it is not there or damaged."""
    try:
        return PersonalizedSettings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError("no model here; expected a folder that 'palate train' finished", path) from error
    except ValidationError as error:
        raise DataError(f"{first_fault(error)}; copy the model again", path) from error


def _made_by(table: Table) -> EncoderIdentity | str:
    return table.field if isinstance(table, BlockTable) else table.encoder


def _described(table: Table) -> str:
    if isinstance(table, BlockTable):
        return f"items as text, whose categories are called {table.field!r}"
    return f"item vectors of {table.encoder.name!r}"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)
