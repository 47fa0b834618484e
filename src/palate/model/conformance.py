"""Conformance suite of decoder-only backbones, run by ``palate check-backbone``.

Most checks compute logits in two equivalent ways and compare them, on prompts like those of trained models:
soft-prompt vectors of several lengths, followed by an instruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from transformers import AutoTokenizer

from palate.backbones.causal import chat_frame, load_causal, loadable_name
from palate.backbones.lora import add_lora, merge_lora
from palate.backbones.spelling import spelled
from palate.encoders.base import UserPrompt
from palate.errors import PalateError
from palate.model.generation import cross_entropy, ends, read_ahead, score, write
from palate.model.positions import max_positions
from palate.model.prompt import Edges, Prompt, begin, finish, inject
from palate.system.extras import install_line, missing_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from palate.backbones.base import Backbone
    from palate.config.recipe import CausalSettings

TEXTS = (
    "Which genres does this user like and dislike?",
    "Does this user like Drama?",
    "Which does this user prefer, Comedy or Drama? Answer with one of the two names.",
)
"""Instructions of the prompts."""
ANSWERS = ("The user likes Drama", "yes", "The user likes Comedy, Drama and doesn't like Horror")
NAMES = ("Drama", "Film-Noir", "Sci-Fi & Fantasy", "Música", "{braces}", "Комедия", "剧情", "ドラマ")
"""Names of categories in several scripts, which answers may contain."""
LENGTHS = (7, 3, 12)
"""Lengths of the user prompts, in vectors."""
TASK_PROMPT = 4
"""Length of the task prompt, in vectors."""
EXACT = 2e-3
"""Tolerance for rounding in float32: maximum difference, in standard deviations of the logits."""
NARROW = 0.1
"""Tolerance for bfloat16: standard deviation of the difference, in standard deviations of the logits."""
MOST_WRITTEN = 12
"""Maximum length of generated answers, in tokens."""


_Result: TypeAlias = tuple[bool | None, str]


@dataclass(frozen=True)
class ConformanceCheck:
    """Result of a check."""

    name: str
    passed: bool | None
    """None if the check does not apply."""
    found: str
    """The measurement, or the reason why the check does not apply."""


@dataclass(frozen=True)
class Conformance:
    """Results of all checks of a backbone."""

    architecture: str | None
    """Class name of the model; None if it could not be loaded."""
    checks: tuple[ConformanceCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(one.passed is not False for one in self.checks)


def check_conformance(
    settings: CausalSettings, report: Callable[[ConformanceCheck], None] = lambda check: None
) -> Conformance:
    """Run the conformance suite on a decoder-only model.

    Args:
        settings: Name and revision of the model.
        report: Called with each result.

    Returns:
        The results; a model that cannot be loaded fails the first check, and the others are skipped.
    """
    done: list[ConformanceCheck] = []

    def note(name: str, passed: bool | None, found: str) -> None:
        done.append(ConformanceCheck(name, passed, found))
        report(done[-1])

    try:
        backbone = load_causal(settings.model_copy(update={"dtype": "float32", "chat": False}))
    except PalateError as error:
        note("loads", False, str(error))
        return Conformance(None, tuple(done))
    architecture = type(backbone.model).__name__
    note("loads", True, f"{architecture}, {backbone.model.num_parameters():,} parameters")
    subject = _Subject(settings, backbone)
    for name, check in _CHECKS.items():
        note(name, *_result(check, subject))
    return Conformance(architecture, tuple(done))


def _result(check: Callable[[_Subject], _Result], subject: _Subject) -> _Result:
    try:
        return check(subject)
    except Exception as error:  # any error in the model's code is a result of the check
        said = " ".join(str(error).split())
        return False, f"{type(error).__name__}: {said[:300]}"


class _Subject:
    """The backbone under test, with prompts and their logits."""

    def __init__(self, settings: CausalSettings, backbone: Backbone) -> None:
        assert backbone.frame is not None, "a decoder-only backbone has a frame"
        self.settings, self.backbone, self.frame = settings, backbone, backbone.frame
        self.model: PreTrainedModel = backbone.model.eval()
        self.tokenizer = backbone.tokenizer
        random = torch.Generator().manual_seed(0)

        def soft(count: int) -> Tensor:
            """Draw vectors [count, E] near token embeddings."""
            ids = torch.randint(backbone.vocab_size, (count,), generator=random)
            near = backbone.token_embeddings(ids).detach()
            return near + 0.5 * near.std() * torch.randn(near.shape, generator=random)

        self.task_prompt = soft(TASK_PROMPT)
        self.user = UserPrompt.of([soft(length) for length in LENGTHS])
        asked = self.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
        self.asked, self.asked_mask = asked["input_ids"], asked["attention_mask"]
        answers = self.tokenizer(list(ANSWERS), padding=True, return_tensors="pt")
        self.answers, self.answers_mask = answers["input_ids"], answers["attention_mask"]

    @property
    def edges(self) -> Edges:
        opening, closing = (
            self.embedded(torch.tensor(ids, dtype=torch.long))
            for ids in (self.frame.opening, self.frame.closing)
        )
        return Edges(opening, closing)

    def embedded(self, ids: Tensor) -> Tensor:
        return self.backbone.token_embeddings(ids).detach()

    @cached_property
    def prompt(self) -> Prompt:
        """Prompts of three users, padded."""
        instruction = self.embedded(self.asked)
        return inject(self.task_prompt, self.user, instruction, self.asked_mask, self.edges)

    @cached_property
    def alone(self) -> list[Prompt]:
        """The same prompts without padding."""
        rows = zip(self.prompt.embeddings, self.prompt.mask.bool(), strict=True)
        return [Prompt(one[mask][None], mask[mask].long()[None]) for one, mask in rows]

    @torch.no_grad()
    def logits(self, prompt: Prompt) -> Tensor:
        """Compute the logits [B, N, V] at every vector of a prompt."""
        found: Tensor = self.model(
            inputs_embeds=prompt.embeddings,
            attention_mask=prompt.mask,
            position_ids=prompt.positions,
            use_cache=False,
        ).logits
        return found.float()

    @cached_property
    def raw_tokenizer(self) -> PreTrainedTokenizerBase:
        """The original tokenizer, which adds its special tokens."""
        place, revision = loadable_name(self.settings), self.settings.revision
        return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)

    @cached_property
    def last(self) -> list[Tensor]:
        """Logits [V] after each prompt without padding."""
        return [self.logits(one)[0, -1] for one in self.alone]


@torch.no_grad()
def _tokens_as_vectors(subject: _Subject) -> _Result:
    """Check that input ids and their embeddings give equal logits."""
    ids = subject.asked[:1][:, subject.asked_mask[0].bool()]
    bare = subject.model(input_ids=ids, use_cache=False).logits.float()
    vectors = Prompt(subject.embedded(ids), torch.ones_like(ids))
    return _same(subject.logits(vectors), bare)


def _scaling(subject: _Subject) -> _Result:
    """Check that the embedding layer scales its rows by the same factor for all tokens."""
    weight = subject.model.get_input_embeddings().weight.detach().float()
    ids = subject.asked.unique()
    rows, read = weight[ids].norm(dim=1), subject.embedded(ids).norm(dim=1)
    there = rows > 0
    factors = read[there] / rows[there]
    factor, spread = float(factors.median()), float((factors.max() - factors.min()) / factors.median())
    size = weight.shape[1]
    root = f" = √{size}" if math.isclose(factor, math.sqrt(size), rel_tol=1e-2) and factor != 1 else ""
    return spread < EXACT, f"rows times {factor:.4g}{root}, the same for all tokens to {spread:.1g}"


@torch.no_grad()
def _causal(subject: _Subject) -> _Result:
    """Check causality: changing the last vectors must not change the logits before them."""
    one = subject.alone[0]
    other = one.embeddings.clone()
    other[:, -3:] = other[:, -3:].flip(2)
    changed = Prompt(other, one.mask)
    return _same(subject.logits(changed)[:, :-3], subject.logits(one)[:, :-3])


def _masks(subject: _Subject) -> _Result:
    """Check the attention mask: noise in masked vectors must not change the logits after them."""
    whole = subject.prompt
    noise = torch.randn(whole.embeddings.shape, generator=torch.Generator().manual_seed(1))
    noisy = torch.where(whole.mask[..., None].bool(), whole.embeddings, noise * whole.embeddings.std())
    return _same(subject.logits(Prompt(noisy, whole.mask))[:, -1], subject.logits(whole)[:, -1])


def _padding(subject: _Subject) -> _Result:
    """Check that prompts in a padded batch have the same logits as alone, with positions that skip padding."""
    return _same(subject.logits(subject.prompt)[:, -1], torch.stack(subject.last))


@torch.no_grad()
def _positions(subject: _Subject) -> _Result:
    """Check that default positions equal explicit ones without padding, and that the order of vectors matters."""
    one = subject.alone[0]
    bare = subject.model(inputs_embeds=one.embeddings, use_cache=False).logits.float()
    same, found = _same(bare, subject.logits(one))
    turned = one.embeddings.clone()
    turned[:, 1:-1] = turned[:, 1:-1].flip(1)
    apart = _apart(subject.logits(Prompt(turned, one.mask))[0, -1], subject.last[0])
    if apart < EXACT:
        return False, "the order of the vectors does not change the logits"
    return same, found


@torch.no_grad()
def _kept_logits(subject: _Subject) -> _Result:
    """Check ``logits_to_keep``, by which only the last logits are computed."""
    one = subject.alone[0]
    kept = subject.model(inputs_embeds=one.embeddings, use_cache=False, logits_to_keep=2).logits.float()
    if kept.shape[1] != 2:
        return False, f"logits_to_keep=2 returns the logits of {kept.shape[1]} positions, expected 2"
    return _same(kept, subject.logits(one)[:, -2:])


@torch.no_grad()
def _prefix(subject: _Subject) -> _Result:
    """Check that prefilling the prefix of an instruction into the KV cache does not change the logits."""
    vectors, mask = subject.embedded(subject.asked[:1]), subject.asked_mask[:1]
    vectors, mask = vectors[:, mask[0].bool()].expand(len(LENGTHS), -1, -1), mask[:, mask[0].bool()]
    asked = vectors, mask.expand(len(LENGTHS), -1)
    whole = inject(subject.task_prompt, subject.user, *asked, subject.edges)
    beginning = begin(subject.task_prompt, subject.user, subject.edges)
    rest = finish(beginning, subject.task_prompt, *asked, subject.edges)
    prefix = read_ahead(subject.model, beginning, subject.user)
    targets = subject.answers, subject.answers_mask
    expected, labels = score(subject.model, subject.frame, whole, *targets)
    split, _ = score(subject.model, subject.frame, rest, *targets, prefix)
    return _same(split[labels >= 0].float(), expected[labels >= 0].float())


@torch.no_grad()
def _generate(subject: _Subject) -> _Result:
    """Check that ``generate`` decodes greedily: each token must have the highest logit in a pass without padding."""
    stops = ends(subject.model, subject.frame)
    written = write(subject.model, subject.frame, subject.prompt, MOST_WRITTEN).tolist()
    least, tokens = 0.0, 0
    for row, (ids, one) in enumerate(zip(written, subject.alone, strict=True)):
        answer = _until_the_end(ids, stops)
        vectors = subject.embedded(torch.tensor([answer]))
        whole = one.followed_by(vectors, torch.ones(1, len(answer)))
        places = subject.logits(whole)[0, one.mask.shape[1] - 1 : -1]
        chosen = places.gather(1, torch.tensor(answer)[:, None]).squeeze(1)
        behind = (places.max(dim=1).values - chosen) / places.std()
        least, tokens = max(least, float(behind.max())), tokens + len(answer)
        if least > EXACT:
            place = int(behind.argmax())
            return False, (
                f"answer {row + 1}: the logit of token {place + 1} is {least:.2g} standard deviations below the "
                "maximum"
            )
    return True, f"{tokens} tokens of {len(written)} answers, each with the highest logit"


def _until_the_end(ids: list[int], stops: list[int]) -> list[int]:
    """Truncate an answer after its end token."""
    places = [place for place, token in enumerate(ids) if token in stops]
    return ids[: places[0] + 1] if places else ids


def _end(subject: _Subject) -> _Result:
    """Check that all end tokens are in the embedding's vocabulary."""
    stops = ends(subject.model, subject.frame)
    rows = subject.model.get_input_embeddings().weight.shape[0]
    named = ", ".join(f"{subject.tokenizer.convert_ids_to_tokens(one)!r}" for one in stops if one < rows)
    return all(one < rows for one in stops), f"answers end with {named}"


def _framed(subject: _Subject) -> _Result:
    """Check that the frame around an instruction equals the tokenizer's encoding of plain text."""

    def whole(text: str) -> list[int]:
        ids: list[int] = subject.raw_tokenizer(f"{text}\n")["input_ids"]
        end = subject.frame.end
        return ids[:-1] if ids[-1] == end else ids  # some tokenizers append an end token

    return _frame_is(subject, subject.backbone, whole)


def _frame_is(subject: _Subject, backbone: Backbone, whole: Callable[[str], list[int]]) -> _Result:
    assert backbone.frame is not None
    text = TEXTS[0]
    inner = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = [*backbone.frame.opening, *inner, *backbone.frame.closing]
    expected = whole(text)
    if joined == expected:
        return True, f"{len(backbone.frame.opening)} tokens before, {len(backbone.frame.closing)} after"
    return False, f"found the tokens {joined}, expected {expected}"


def _chat(subject: _Subject) -> _Result:
    """Check that the frame of ``chat: true`` equals the encoding of the chat template."""
    raw = subject.raw_tokenizer
    if not raw.chat_template:
        return None, "the model has no chat template; train with model.backbone.chat=false"

    def whole(text: str) -> list[int]:
        turns = [{"role": "user", "content": text}]
        written = raw.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = raw(written, add_special_tokens=False)["input_ids"]
        return ids

    frame = chat_frame(subject.settings, raw)
    same, found = _frame_is(subject, replace(subject.backbone, frame=frame), whole)
    return same, f"{found}; answers end with {subject.tokenizer.convert_ids_to_tokens(frame.end)!r}"


def _names(subject: _Subject) -> _Result:
    """Check that names of several scripts survive encoding and decoding."""
    back = [subject.tokenizer.decode(ids).strip() for ids in spelled(subject.tokenizer, NAMES)]
    lost = [f"{name!r} as {said!r}" for name, said in zip(NAMES, back, strict=True) if name != said]
    if lost:
        return None, f"decodes {', '.join(lost)}; names of the data are checked before training"
    return (
        True,
        f"{len(NAMES)} names, starting with {len({name[0] for name in NAMES})} characters, are reproduced",
    )


def _length(subject: _Subject) -> _Result:
    """Check that the context length is known and sufficient."""
    most = max_positions(subject.model.config)
    needed = subject.prompt.mask.shape[1] + MOST_WRITTEN
    if most is None:
        return None, "the config has no max_position_embeddings, so that prompts that are too long fail late"
    window = getattr(subject.model.config, "sliding_window", None)
    sliding = f", sliding window of {window:,} in some layers" if isinstance(window, int) else ""
    return most >= needed, f"{most:,} positions for prompt and answer{sliding}; these prompts need {needed}"


def _gradients(subject: _Subject) -> _Result:
    """Check that gradients reach all vectors of the prompts, and no padding."""
    vectors = subject.prompt.embeddings.clone().requires_grad_()
    prompt = Prompt(vectors, subject.prompt.mask)
    logits, labels = score(subject.model, subject.frame, prompt, subject.answers, subject.answers_mask)
    cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    subject.model.zero_grad(set_to_none=True)
    assert vectors.grad is not None
    lengths, mask = vectors.grad.norm(dim=2), prompt.mask.bool()
    if not lengths.isfinite().all():
        return False, "some gradients are not finite"
    missing, leaked = int((lengths[mask] == 0).sum()), float(lengths[~mask].max()) if (~mask).any() else 0.0
    if missing or leaked > EXACT * float(lengths[mask].max()):
        return False, f"{missing} vectors have no gradient; the gradient at padding is {leaked:.2g}"
    return True, f"gradients reach all {int(mask.sum())} vectors and no padding"


def _bfloat16(subject: _Subject) -> _Result:
    """Compare logits with weights in bfloat16 to those in float32; the weights stay rounded."""
    subject.model.to(torch.bfloat16)
    narrow = [subject.logits(one)[0, -1] for one in subject.alone]
    subject.model.to(torch.float32)
    if not all(one.isfinite().all() for one in narrow):
        return False, "some logits are not finite"
    changes = [float((a - b).std() / b.std()) for a, b in zip(narrow, subject.last, strict=True)]
    return max(
        changes
    ) < NARROW, f"changes logits by {max(changes):.2g} standard deviations, at most {NARROW:g} is allowed"


@torch.no_grad()
def _lora(subject: _Subject) -> _Result:
    """Check that merging LoRA on all linear layers does not change the logits."""
    if missing_modules("lora"):
        return None, f"peft is not installed; run  {install_line('lora')}"
    add_lora(subject.model, subject.settings.model_copy(update={"lora_target_modules": "all-linear"}))
    subject.model.eval()
    updates = [weight for name, weight in subject.model.named_parameters() if "lora_B" in name]
    random = torch.Generator().manual_seed(2)
    for weight in updates:
        weight.copy_(0.02 * torch.randn(weight.shape, generator=random))
    added = subject.logits(subject.alone[0])
    moved = _apart(added[0, -1], subject.last[0])
    merge_lora(subject.model)
    same, found = _same(subject.logits(subject.alone[0]), added)
    if moved < EXACT:
        return False, "the adapters do not change the logits"
    return same, f"{len(updates)} layers; merged against added: {found}"


_CHECKS: dict[str, Callable[[_Subject], _Result]] = {
    "embeddings as input": _tokens_as_vectors,
    "scaling of the embedding": _scaling,
    "causal attention": _causal,
    "attention mask": _masks,
    "padding": _padding,
    "positions": _positions,
    "logits_to_keep": _kept_logits,
    "prefix in the KV cache": _prefix,
    "greedy generation": _generate,
    "end token": _end,
    "frame of a plain text": _framed,
    "frame of the chat template": _chat,
    "names": _names,
    "context length": _length,
    "gradients": _gradients,
    "bfloat16": _bfloat16,
    "LoRA": _lora,
}
"""Checks by name; the last two modify the weights."""


def _apart(found: Tensor, expected: Tensor) -> float:
    """Return the maximum difference of logits, in standard deviations of the expected ones."""
    return float((found - expected).abs().max() / expected.std())


def _same(found: Tensor, expected: Tensor) -> _Result:
    apart = _apart(found, expected)
    return apart < EXACT, f"logits differ by {apart:.1g} standard deviations, at most {EXACT:g} is allowed"
