"""The recipe: every setting of a run, validated before any work starts.

A recipe is a YAML file. Only what differs from the defaults below needs to be written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator

from palate.config import registry
from palate.config.section import KindSettings, OfKind, Section
from palate.schema import QuestionKind, WindowKind
from palate.system.places import LocalName, LocalPath


class DataSettings(Section):
    """The dataset."""

    path: LocalPath = Path("data/ml-100k")
    """Folder that ``palate prepare`` wrote; from the working directory, where it is relative."""


class TaskSettings(KindSettings):
    """The question, and the label rule that makes its truth."""

    kind: str = "category-preference"
    """Which question; a task that is registered."""
    like_above: float | None = None
    """A category is liked when its mean rating is above this; the dataset's own threshold when not given."""
    dislike_below: float | None = None
    """A category is disliked when its mean rating is below this; likewise."""
    min_count: int = Field(3, ge=1)
    """Categories rated less often than this carry no label."""
    max_labels: int = Field(3, ge=1)
    """How many categories are named as liked, and as disliked."""


AnyTaskSettings = Annotated[SerializeAsAny[TaskSettings], BeforeValidator(OfKind(registry.tasks))]
"""The settings of a registered task, palate's own or another's."""


class ItemTextSettings(Section):
    """What the item encoder reads of an item, where it is not to be what the dataset says."""

    noun: str | None = None
    """What an item is called."""
    field: str | None = None
    """What the categories are called, in the plural."""
    listed: str | None = None
    """Template of an item with categories: ``{noun}``, ``{field}``, ``{title}``, ``{categories}``."""
    unlisted: str | None = None
    """Template of an item without categories: ``{noun}``, ``{field}``, ``{title}``."""
    rated: str | None = None
    """Template of a rating value: ``{noun}``, ``{rating}``."""


class ItemSettings(Section):
    """The frozen encoder of the items' texts."""

    encoder: LocalName = "packaged:all-MiniLM-L6-v2"
    """Sentence encoder: a hub name, a folder, or ``packaged:all-MiniLM-L6-v2`` for the pip package."""
    revision: str | None = None
    """Hub revision of the encoder."""
    batch_size: int = Field(32, ge=1)
    """Texts a forward pass of the encoder."""
    max_seq_length: int = Field(256, ge=8)
    """Texts are truncated to this many tokens."""
    cache: LocalPath | None = None
    """Folder of cached item vectors; the user's cache folder when not given."""
    texts: ItemTextSettings = ItemTextSettings()


class WindowSettings(Section):
    """Which interactions the model sees."""

    kind: WindowKind = "recent"
    """The most recent interactions, or random ones."""
    shortest: int = Field(50, ge=1)
    """Training draws the window's size, log-uniformly, from here …"""
    longest: int = Field(50, ge=1, validate_default=True)
    """… to here. Equal values fix it."""

    @field_validator("longest")
    @classmethod
    def _not_shorter_than_the_shortest(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("shortest", 1):
            raise ValueError(f"must be at least windows.shortest, which is {info.data['shortest']}")
        return longest


class RandomT5Settings(Section):
    """A T5 v1.1 with random weights and a tokenizer built from the data: no hub needed."""

    kind: Literal["random-t5"] = "random-t5"
    d_model: int = Field(128, ge=8)
    """Size of the residual stream."""
    d_ff: int = Field(256, ge=8)
    """Size of the feed-forward layers."""
    num_heads: int = Field(4, ge=1)
    """Attention heads of a layer, each of size d_model / num_heads."""
    num_layers: int = Field(2, ge=1)
    """Layers of the encoder, and of the decoder."""
    dropout: float = Field(0.0, ge=0, lt=1)
    attention: Literal["full", "local", "transient-global"] = "full"
    """The encoder's: T5's, or one of LongT5's two, whose cost grows with the text's length and not its square."""
    local_radius: int = Field(127, ge=1)
    """Tokens to either side that LongT5's encoder looks at."""
    vocab_size: int = Field(2000, ge=64)
    """Most tokens in the tokenizer."""
    item_texts: bool = False
    """Build the tokenizer from the items' texts too, not only from the task's; where the history is text it is."""


class PretrainedSettings(Section):
    """A backbone with weights of its own, and how much of it is trained."""

    name: LocalName
    revision: str | None = None
    train: Literal["full", "lora", "frozen"] = "full"
    """All of it, LoRA's updates alone, or nothing; of the last two a model saves no more than what was trained."""
    lora_r: int = Field(8, ge=1)
    """Rank of LoRA's updates."""
    lora_alpha: int | None = Field(None, ge=1)
    """Scale of LoRA's updates, which are multiplied by lora_alpha / lora_r; twice the rank when not given."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on what LoRA's updates read."""
    lora_target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Modules that LoRA updates, by the ends of their names; ``all-linear`` is every linear layer but the output's."""


class PretrainedT5Settings(PretrainedSettings):
    """A T5, T5 v1.1, LM-adapted T5, Flan-T5 or LongT5 by hub name or folder."""

    kind: Literal["t5"] = "t5"
    name: LocalName = "google/flan-t5-base"
    """A hub name or a folder."""


class CausalSettings(PretrainedSettings):
    """A decoder-only model (Llama, Qwen, Gemma …) by hub name, folder or GGUF file."""

    kind: Literal["causal"] = "causal"
    name: LocalName = "packaged:gemma3-270m"
    """A hub name, a folder, a file ``*.gguf``, or ``packaged:gemma3-270m`` for the pip package."""
    chat: bool = False
    """Ask in the model's own chat template, as models that were tuned to instructions expect."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What its weights lie in; bfloat16 is half the memory, for those that are not trained. All else is float32."""

    @field_validator("dtype")
    @classmethod
    def _wide_where_it_is_trained(cls, dtype: str, info: ValidationInfo) -> str:
        if dtype == "bfloat16" and info.data.get("train") == "full":
            raise ValueError(
                "bfloat16 is for weights that are not trained, and train is 'full'; set train to frozen or lora, or "
                "leave it at float32 and set the recipe's train.bf16=true"
            )
        return dtype


BackboneSettings = Annotated[
    RandomT5Settings | PretrainedT5Settings | CausalSettings, Field(discriminator="kind")
]


class TextSettings(KindSettings):
    """No user encoder: the history as text in the backbone's own context, as in the paper's text baselines."""

    kind: Literal["text"] = "text"
    max_length: int = Field(16_000, ge=1)
    """Longest history in tokens; the oldest items are left out of a longer one."""
    descriptions: bool = True
    """Write the items' descriptions, which are most of the text."""


class UEMSettings(KindSettings):
    """The paper's User Embedding Module: a T5 v1.1-style transformer, one user-prompt vector an item."""

    kind: Literal["uem"] = "uem"
    d_model: int | None = Field(None, ge=8)
    """Of the residual stream; as wide as an item's and its rating's vectors side by side when not given."""
    num_layers: int = Field(3, ge=1)
    num_heads: int = Field(12, ge=1)
    d_kv: int = Field(64, ge=1)
    """Size of an attention head."""
    d_ff: int = Field(2048, ge=1)
    """Size of the feed-forward layers."""
    dropout: float = Field(0.1, ge=0, lt=1)


def _divides_d_model(num_heads: int, info: ValidationInfo) -> int:
    d_model = info.data.get("d_model", num_heads)
    if d_model % num_heads:
        raise ValueError(f"must divide d_model, which is {d_model}")
    return num_heads


class ResamplerSettings(KindSettings):
    """Learned latent queries that attend to the window's items, as in PERSOMA: a user prompt of fixed length."""

    kind: Literal["resampler"] = "resampler"
    num_queries: int = Field(24, ge=1)
    """Vectors of the user prompt."""
    d_model: int = Field(256, ge=8)
    num_layers: int = Field(2, ge=1)
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(8, ge=1, validate_default=True)
    """Attention heads of a layer; must divide d_model."""
    dropout: float = Field(0.0, ge=0, lt=1)

    @property
    def vectors(self) -> int:
        """Length M of the user prompt."""
        return self.num_queries


class StreamingSettings(KindSettings):
    """Attention pooling into a fixed number of latent queries, whose state takes events in and out one by one."""

    kind: Literal["streaming"] = "streaming"
    num_queries: int = Field(24, ge=2)
    """Vectors of the user prompt that read the history. The first queries start from the catalogue's categories, the
    next from all items."""
    d_model: int = Field(128, ge=8)
    num_layers: int = Field(2, ge=0)
    """Transformer layers over what the queries read."""
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(4, ge=1, validate_default=True)
    """Attention heads of a layer; must divide d_model."""
    dropout: float = Field(0.0, ge=0, lt=1)
    recency: bool = False
    """Learn how fast each query forgets; for timestamps that are times."""
    named: int = Field(0, ge=0)
    """Liked, and as many disliked, categories that the user prompt names in order behind the queries' vectors: a
    backbone that is not trained then has less to learn."""

    @property
    def vectors(self) -> int:
        """Length M of the user prompt."""
        return self.num_queries + 2 * self.named


UserEncoderSettings = Annotated[SerializeAsAny[KindSettings], BeforeValidator(OfKind(registry.user_encoders))]
"""The settings of a registered user encoder, palate's own or another's."""


class ModelSettings(Section):
    """The parts that are composed."""

    backbone: BackboneSettings = PretrainedT5Settings()
    user_encoder: UserEncoderSettings = UEMSettings()
    task_prompt: int = Field(20, ge=0)
    """Length k of the task prompt K."""
    task_prompt_text: str | None = None
    """Words that K starts from, repeated or cut to its length; random tokens when not given."""
    user_first: bool = False
    """Put the task prompt between user prompt and instruction, and not first of all: what is read of a user is then
    the same for every task, and costs a history that is text no gradients."""
    user_encoder_from: LocalPath | None = None
    """Run whose trained user encoder this one starts from: of the same kind and size, on the same items and
    categories, whatever its backbone was."""
    like_tokens: bool = False
    """Keep user prompt and task prompt as far from the mean of the backbone's token embeddings as these are, all
    through training: for backbones that are not trained. Recipes that do not ask for it train as they always did."""


class SimulationSettings(Section):
    """Users simulated over the real catalogue."""

    users: int = Field(0, ge=0)
    """Users simulated from the training users' statistics; 0 trains on real users alone."""
    share: float = Field(0.75, ge=0, le=1)
    """Share of a training batch that is drawn from them."""


class TrainSettings(Section):
    """The training."""

    max_steps: int = Field(10_000, ge=0)
    """Optimizer steps; with 0 the model is saved as it starts, and answers without any training."""
    max_minutes: float | None = Field(None, gt=0)
    """End earlier, with the schedule squeezed to fit, when this much time has passed: for a trial, because the result
    then depends on how fast and how busy the machine is. What it cut short is said wherever the model is scored."""
    threads: int | None = Field(None, ge=1)
    """CPU threads, on which results depend in their last digits; one a core when not given. With as many threads on
    the same kind of processor a recipe gives the same weights, bit for bit."""
    per_device_train_batch_size: int = Field(128, ge=1)
    """Windows a step on one device."""
    rounds: int = Field(1, ge=1)
    """Questions about each window of a batch, one kind a round; a decoder-only backbone reads what stands before them
    once for all of them."""
    sampled_tokens: int = Field(0, ge=0)
    """Score answers against so many random tokens of the vocabulary, which stand for all others, beside the likely
    ones and the answers' own; 0 scores all. For decoder-only backbones that are not trained whole: most of a step's
    time may go into a large vocabulary."""
    windows_per_user: int = Field(1, ge=1)
    """Windows of one user in a batch."""
    length_groups: int = Field(1, ge=1)
    """Draw the users of so many batches at once, and share them out by the length of their histories: less padding."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches whose gradients make one optimizer step."""
    optim: Literal["adamw_torch", "adafactor"] = "adamw_torch"
    """Optimizer."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak rate of the user encoder and the task prompt."""
    backbone_learning_rate: float | None = Field(None, gt=0)
    """Peak rate of the backbone; the same as the others when not given."""
    task_prompt_learning_rate: float | None = Field(None, gt=0)
    """Peak rate of the task prompt; the same as the others when not given. Its numbers are as large as a token's, and
    beside a backbone that is not trained it moves far too slowly at the user encoder's."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rates after the warmup; cosine and linear end at 2% of the peak."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Share of the training in which the rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of all trained weights."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    bf16: bool = False
    """Train in bfloat16 mixed precision; float32 otherwise."""
    gradient_checkpointing: bool = False
    """Compute the backbone's activations twice, to need less memory."""
    auxiliary_weight: float = Field(0.0, ge=0)
    """Weight of the per-category loss on the user encoder; 0 leaves it out."""
    auxiliary_only_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the training, from the start, in which the user encoder learns by that loss, without the backbone."""
    answers: Literal["truth", "view"] = "truth"
    """What the backbone learns to say: the labels, or those that promise the highest F1 by the user encoder's view."""
    questions: dict[QuestionKind, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Share of each kind of question (preference, liked, disliked, yes-no, pair, rating), in several wordings; the
    task's own instruction alone when none is given. ``null`` takes back the kinds of an extended recipe."""
    window_labels: float = Field(0.0, ge=0, lt=1)
    """Share of the training, from the start, in which labels come from the window itself."""
    eval_steps: int = Field(500, ge=1)
    """Steps between evaluations on dev users, and between checkpoints."""
    eval_users: int = Field(512, ge=1)
    """Most dev users in such an evaluation."""
    eval_windows: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Windows that the dev score is the mean over; ``evaluate.window`` alone when none is given."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a better dev score."""

    @property
    def windows_per_step(self) -> int:
        """Windows that one optimizer step sees on each device."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @field_validator("questions", mode="before")
    @classmethod
    def _taken_back(cls, questions: object) -> object:
        return {} if questions is None else questions

    @field_validator("questions")
    @classmethod
    def _for_the_rounds(
        cls, questions: dict[QuestionKind, float], info: ValidationInfo
    ) -> dict[QuestionKind, float]:
        if info.data.get("rounds", 1) > 1 and not questions:
            raise ValueError(
                "needs several kinds of questions where train.rounds asks more than one; set rounds=1"
            )
        return questions

    @field_validator("auxiliary_only_ratio")
    @classmethod
    def _with_a_loss(cls, alone: float, info: ValidationInfo) -> float:
        if alone and not info.data.get("auxiliary_weight", 1.0):
            raise ValueError(
                "needs train.auxiliary_weight above 0, the loss that the user encoder learns by alone"
            )
        return alone

    @field_validator("answers")
    @classmethod
    def _with_a_view(cls, answers: str, info: ValidationInfo) -> str:
        if answers == "view" and not info.data.get("auxiliary_weight", 1.0):
            raise ValueError(
                "'view' needs train.auxiliary_weight above 0, the loss that the user encoder's view learns by"
            )
        return answers


class EvaluateSettings(Section):
    """How answers are asked for and scored."""

    window: int = Field(50, ge=1)
    """Interactions that the model sees."""
    batch_size: int = Field(128, ge=1)
    """Users in one forward pass; evaluation runs in one process, whatever the number of devices."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Longest answer in tokens; when not given 48, or as many as the longest target of the data may have."""


class Recipe(Section):
    """Everything that a run needs to know."""

    name: str = "run"
    seed: int = Field(0, ge=0, le=2**32 - 1)
    data: DataSettings = DataSettings()
    task: AnyTaskSettings = TaskSettings()
    items: ItemSettings = ItemSettings()
    windows: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    simulation: SimulationSettings = SimulationSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
