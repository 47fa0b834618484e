"""Trains the packaged backbone: a small T5 that copies any category's name, on random names only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.backbones.base import Backbone
from palate.backbones.spelling import spelled
from palate.backbones.t5 import random_t5
from palate.config.recipe import RandomT5Settings
from palate.config.section import Section
from palate.encoders.base import UserPrompt
from palate.encoders.spoken import NamesPrompt
from palate.errors import DataError
from palate.model.asking import Asked
from palate.model.generation import cross_entropy, score
from palate.model.prompt import inject
from palate.pretraining.copying import sizes_for_copying, start_copying
from palate.pretraining.names import (
    name_texts,
    random_catalogue,
    random_field,
    random_word,
    similar_catalogue,
)
from palate.schema import Bools, Doubles, Floats, Ints, Preferences, QuestionKind
from palate.tasks.phrases import random_wording
from palate.tasks.questions import YES_NO, Question, about_categories, about_item
from palate.tasks.verbalizer import Verbalizer, nothing_named
from palate.tasks.wordings import NAMING, WORDINGS
from palate.words import plural

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMES_ASKED: dict[QuestionKind, float] = {"preference": 0.5, "liked": 0.25, "disliked": 0.25}
"""Shares of the kinds of questions that are answered with names."""
CATEGORIES_ASKED: dict[QuestionKind, float] = {"yes-no": 0.25, "pair": 0.35, "rating": 0.4}
"""Shares of the kinds of questions about categories and items."""
SIMILAR = 0.3
"""Share of the catalogues whose names are hard to tell apart."""
VARIED = 0.5
"""Share of the questions for one of two or a rating for which the categories' values are varied."""
TITLES = 3
"""Maximum number of words in a random item's title."""


class LanguagePretraining(Section):
    """Pretraining of the packaged backbone on random names."""

    d_model: int = Field(128, ge=32)
    d_ff: int = Field(256, ge=8)
    num_layers: int = Field(2, ge=1)
    """Layers in the encoder, and in the decoder."""
    vocab_size: int = Field(1500, ge=320)
    """Vocabulary of the tokenizer: all bytes, and the most frequent parts of random names."""
    catalogues: int = Field(600, ge=1)
    """Random catalogues of 20 names that the tokenizer is trained on."""
    task_prompt: int = Field(2, ge=0)
    """Length of the task prompt, in vectors."""
    pooled: int = Field(4, ge=1, le=8)
    """Vectors of the user prompt that are pooled from all categories."""
    most: int = Field(3, ge=1)
    """Maximum number of names in each half of an answer."""
    name_tokens: tuple[int, ...] = (3, 4, 5, 6, 8, 8, 12, 12, 24, 48)
    """Maximum name lengths in tokens, one of which is drawn for each batch; batches of short names are cheaper."""
    steps: int = Field(100, ge=0)
    """Optimizer steps with questions for names alone, for which no network is needed."""
    entity_steps: int = Field(1_000, ge=0)
    """Optimizer steps after them, with questions about categories and items in every other one."""
    entity_populations: int = Field(96, ge=1)
    """Random populations whose users the questions about categories and items are about."""
    groups: int = Field(4, ge=1)
    """Populations, each with names of its own, in a batch."""
    users: int = Field(8, ge=1)
    """Users of each population in a batch."""
    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(50, ge=0)
    """Steps over which the learning rate increases linearly."""
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, eq=False)
class Readers:
    """Hidden states and logits of a network for B users of one population of L categories, and the true values."""

    hidden: Tensor  # [B, L, W]
    logits: Tensor  # [B, L, 2]
    rated: Tensor  # [B, L] expected ratings as places on the scale
    scores: Doubles  # [B, L] true score of each category
    known: Bools  # [B, L] whether there is one
    like_above: float
    rating_values: Floats  # [R]
    item_categories: list[list[int]]  # of an item of each user, [B]

    def __getitem__(self, rows: Ints) -> Readers:
        """Select users."""
        at = torch.from_numpy(rows)
        return replace(
            self,
            hidden=self.hidden[at],
            logits=self.logits[at],
            rated=self.rated[at],
            scores=self.scores[rows],
            known=self.known[rows],
            item_categories=[self.item_categories[row] for row in rows],
        )


class ReaderSource(Protocol):
    """Draws users for the questions about categories and items."""

    width: int
    """Size W of a hidden state."""

    def draw(self, rng: np.random.Generator, users: int) -> Readers:
        """Draw users of one population."""


class NobodyRead:
    """Users without encoded histories, for questions that are answered with the names in the user prompt."""

    def __init__(self, width: int) -> None:
        self.width = width

    def draw(self, rng: np.random.Generator, users: int) -> Readers:
        """Draw a number of categories, with zeros for all values."""
        labels = int(rng.integers(2, 13))
        return Readers(
            hidden=torch.zeros(users, labels, self.width),
            logits=torch.zeros(users, labels, 2),
            rated=torch.full((users, labels), 0.5),
            scores=np.zeros((users, labels)),
            known=np.zeros((users, labels), dtype=np.bool_),
            like_above=0.0,
            rating_values=np.arange(1, 6, dtype=np.float32),
            item_categories=[[]] * users,
        )


class Language(nn.Module):
    """The trained parts: the backbone, the user prompt's marks and projections, and the task prompt.

    Args:
        backbone: The backbone with random weights, and its tokenizer.
        width: Size W of a network's hidden states.
        settings: Sizes.
    """

    def __init__(self, backbone: Backbone, width: int, settings: LanguagePretraining) -> None:
        super().__init__()
        self.settings = settings
        self.backbone, self.tokenizer = backbone.model, backbone.tokenizer
        embeddings = self.backbone.get_input_embeddings
        size, longest = settings.d_model, max(settings.name_tokens)
        self.names = NamesPrompt(width, size, embeddings, settings.most, longest, settings.pooled)
        self.task_prompt = nn.Parameter(torch.randn(settings.task_prompt, size))
        start_copying(backbone.model, self.tokenizer, self.names, self.task_prompt)

    def forward(self, user: UserPrompt, asked: Asked, target: Tensor, target_mask: Tensor) -> Tensor:
        """Compute the loss of targets [B, N'] after questions about B users."""
        vectors, mask = asked.embedded(
            self.backbone.get_input_embeddings(), len(target), user.entities, self.names.name_places
        )
        prompt = inject(self.task_prompt, user, vectors, mask)
        return cross_entropy(*score(self.backbone, None, prompt, target, target_mask))


@dataclass(frozen=True, eq=False)
class Lesson:
    """Questions about users of one population, whose categories have random names."""

    names: list[str]
    field: str
    readers: Readers
    named: Ints  # [B, 2, most]
    asked: list[Question]
    targets: list[str]


class Lessons:
    """Draws lessons: random names, decisions and questions.

    Args:
        tokenizer: The backbone's.
        source: Draws users.
        kinds: Shares of the kinds of questions.
        most: Maximum number of names in each half of an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: ReaderSource,
        kinds: dict[QuestionKind, float],
        most: int = 3,
    ) -> None:
        self._tokenizer, self._source, self._most = tokenizer, source, most
        self._kinds, self._shares = [*kinds], np.array([*kinds.values()])

    def draw(self, rng: np.random.Generator, users: int, longest: int) -> Lesson:
        """Draw a lesson of B users and of names of at most ``longest`` tokens."""
        readers = self._source.draw(rng, users)
        labels = readers.hidden.shape[1]
        names, field, verbalizer = self._catalogue(rng, labels, longest)
        named = _decisions(rng, users, labels, self._most)
        kinds: list[QuestionKind] = list(
            rng.choice(self._kinds, size=users, p=self._shares / self._shares.sum())
        )
        readers = _varied(rng, readers, np.array([kind in ("pair", "rating") for kind in kinds]))
        asked, targets = [], []
        for row, kind in enumerate(kinds):
            question, target = _question(rng, kind, row, readers, named, names, field, verbalizer)
            asked.append(question)
            targets.append(target)
        return Lesson(names, field, readers, named, asked, targets)

    def _catalogue(
        self, rng: np.random.Generator, labels: int, longest: int
    ) -> tuple[list[str], str, Verbalizer]:
        """Draw names that are short enough and can be parsed back."""
        while True:
            similar = rng.random() < SIMILAR
            short: dict[str, str] = {}
            while len(short) < labels:
                many = random_catalogue(rng, 2 * labels)
                if similar:
                    many = similar_catalogue(rng, 2 * labels)
                for name, ids in zip(many, spelled(self._tokenizer, many), strict=True):
                    if len(ids) <= longest:
                        short.setdefault(name.casefold(), name)
            names = list(short.values())[:labels]
            field = random_field(rng)
            try:
                return names, field, Verbalizer(names, field, self._most)
            except DataError:
                continue


def _decisions(rng: np.random.Generator, users: int, labels: int, most: int) -> Ints:
    """Draw decisions [B, 2, most]: random categories in random order, independent of any encoded history."""
    named = np.full((users, 2, most), -1)
    for row in named:
        order = rng.permutation(labels)
        liked, disliked = rng.integers(0, most + 1, 2)
        liked = min(liked, labels)
        disliked = min(disliked, labels - liked)
        row[0, :liked] = order[:liked]
        row[1, :disliked] = order[liked : liked + disliked]
    return named


def _varied(rng: np.random.Generator, readers: Readers, rows: Bools) -> Readers:
    """Perturb log-odds and expected ratings of some of the users at ``rows`` [B], so that answers depend on them."""
    chosen = torch.from_numpy(rows & (rng.random(len(rows)) < VARIED))
    noise = torch.from_numpy(rng.normal(size=(*readers.rated.shape, 3))).to(readers.rated)
    logits = readers.logits + torch.where(chosen[:, None, None], noise[..., :2], 0.0)
    rated = readers.rated + torch.where(chosen[:, None], noise[..., 2] / 4, 0.0)
    return replace(readers, logits=logits, rated=rated.clamp(0, 1))


def _question(
    rng: np.random.Generator,
    kind: QuestionKind,
    row: int,
    readers: Readers,
    named: Ints,
    names: Sequence[str],
    field: str,
    verbalizer: Verbalizer,
) -> tuple[Question, str]:
    """Write one question about a user, and its true answer."""
    wording = random_wording(rng, kind)
    values = [f"{value:g}" for value in readers.rating_values]
    words = {"fields": plural(field), "low": values[0], "high": values[-1]}
    known = np.flatnonzero(readers.known[row])
    if kind not in NAMING and len(known) < 2:
        kind, wording = "preference", random_wording(rng, "preference")
    if kind in NAMING:
        said = Preferences(named[row : row + 1, 0], named[row : row + 1, 1])
        write = verbalizer.write(said) if kind == "preference" else verbalizer.write_half(said, kind)
        return Question(wording.format(**words)), write[0]
    score = readers.scores[row]
    if kind == "yes-no":
        index = int(rng.choice(known))
        question = about_categories(wording, [index], names, **words)
        return question, YES_NO[0] if score[index] > readers.like_above else YES_NO[1]
    if kind == "pair":
        one, other = rng.choice(known, 2, replace=False).tolist()
        question = about_categories(wording, [one, other], names, **words)
        liked = readers.logits[row, :, 0] - readers.logits[row, :, 1]
        return question, names[one] if liked[one] >= liked[other] else names[other]
    title = " ".join(random_word(rng) for _ in range(int(rng.integers(1, TITLES + 1))))
    year = int(rng.integers(1920, 2030)) if rng.random() < 0.5 else None
    question = about_item(wording, title, year, readers.item_categories[row], names, **words)
    return question, values[_rounded(rng, readers, row)]


def _rounded(rng: np.random.Generator, readers: Readers, row: int) -> int:
    """Round the expected rating of a user's item to one of the two values around it, whose mean is the expectation."""
    expected = float(readers.rated[row, readers.item_categories[row]].mean())
    values = (readers.rating_values - readers.rating_values[0]) / np.ptp(readers.rating_values)
    above = int(np.searchsorted(values, expected).clip(1, len(values) - 1))
    share = (expected - values[above - 1]) / (values[above] - values[above - 1])
    return above if rng.random() < share else above - 1


def language_backbone(settings: LanguagePretraining) -> Backbone:
    """Build the backbone with random weights, and its tokenizer from generated text."""
    rng = np.random.default_rng([settings.seed, 1])
    torch.manual_seed(settings.seed)
    sizes = RandomT5Settings(
        d_model=settings.d_model,
        d_ff=settings.d_ff,
        num_layers=settings.num_layers,
        vocab_size=settings.vocab_size,
    )
    return random_t5(sizes, _generated(rng, settings.catalogues), begins_words=True, **sizes_for_copying())


def _generated(rng: np.random.Generator, catalogues: int) -> Iterator[str]:
    """Yield the texts that the tokenizer is trained on: sentences of the tasks, and random names."""
    for _ in range(catalogues):
        field = random_field(rng)
        words = {"fields": plural(field), "category": "", "other": "", "item": "", "low": "1", "high": "5"}
        for kind, wordings in WORDINGS.items():
            yield from (wording.format(**words) for wording in wordings.all)
            yield random_wording(rng, kind).format(**words)
        yield f"The user likes no {field} and doesn't like any {field}, {' '.join(YES_NO)} 1 2 3 4 5 6 7 8 9 10"
        yield f"The user doesn't like any {field}"
    yield from name_texts(rng, catalogues)


def user_prompts(language: Language, lessons: Sequence[Lesson]) -> UserPrompt:
    """Write the user prompts of several lessons, each with its own names."""
    parts, entities = [], []
    for lesson in lessons:
        nothing = nothing_named(lesson.field)
        language.names.bind(spelled(language.tokenizer, lesson.names), spelled(language.tokenizer, nothing))
        read = lesson.readers
        user = language.names(torch.from_numpy(lesson.named), read.hidden, read.logits, read.rated)
        parts += user.split()
        assert user.entities is not None
        entities += list(user.entities)
    padded = UserPrompt.of(parts)
    return UserPrompt(
        padded.embeddings, padded.mask, entities=nn.utils.rnn.pad_sequence(entities, batch_first=True)
    )


def pretrain_names(
    settings: LanguagePretraining,
    width: int,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Language:
    """Train a backbone and the marks of its user prompt to say random names in order.

    Args:
        settings: Sizes, steps and seed.
        width: Size W of the hidden states that the user prompt will be given.
        progress: Called after each step with its number and its loss.

    Returns:
        The trained parts, in evaluation mode.
    """
    language = Language(language_backbone(settings), width, settings)
    lessons = Lessons(language.tokenizer, NobodyRead(width), NAMES_ASKED, settings.most)
    _train(language, [lessons], settings.steps, 2, progress)
    return language.eval()


def pretrain_entities(
    language: Language, source: ReaderSource, progress: Callable[[int, float], None] = lambda step, loss: None
) -> None:
    """Continue the training of :func:`pretrain_names` with questions about categories and items in every other step.

    Args:
        language: The parts, which are changed.
        source: Draws users whom a network has read.
        progress: Called after each step with its number and its loss.
    """
    settings, tokenizer = language.settings, language.tokenizer
    kinds = (NAMES_ASKED, CATEGORIES_ASKED)
    lessons = [Lessons(tokenizer, source, kind, settings.most) for kind in kinds]
    _train(language, lessons, settings.entity_steps, 3, progress)
    language.eval()


def _train(
    language: Language,
    lessons: Sequence[Lessons],
    steps: int,
    stream: int,
    progress: Callable[[int, float], None],
) -> None:
    """Take optimizer steps with batches of each kind of lesson in turn, a function of the seed and the stream."""
    settings, tokenizer = language.settings, language.tokenizer
    language.train()
    optimizer = torch.optim.AdamW(language.parameters(), settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    for step in range(steps):
        rng = np.random.default_rng([settings.seed, stream, step])
        longest, drawn = int(rng.choice(settings.name_tokens)), lessons[step % len(lessons)]
        batch = [drawn.draw(rng, settings.users, longest) for _ in range(settings.groups)]
        asked = Asked.of([one for lesson in batch for one in lesson.asked], tokenizer)
        texts = [text for lesson in batch for text in lesson.targets]
        target = tokenizer(texts, padding=True, return_tensors="pt")
        loss = language(user_prompts(language, batch), asked, target["input_ids"], target["attention_mask"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(language.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, float(loss.detach()))


def _rate(step: int, steps: int, warmup: int) -> float:
    """Compute the share of the peak learning rate at a step: linear warmup, then a cosine to 2%."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
