"""Recipe settings: every setting of a run, validated before any work starts.

A recipe is a YAML file with the settings that differ from the defaults below.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from palate.config import registry
from palate.config.generative import AnyGenerativeSettings
from palate.config.section import KindSettings, OfKind, Section
from palate.schema import ConditioningKind, LabelRule, QuestionKind, RankingProtocol, WindowKind
from palate.system.places import LocalName, LocalPath


class DataSettings(Section):
    """The dataset."""

    path: LocalPath = Path("data/ml-100k")
    """Dataset folder, as written by ``palate prepare``; relative to the working directory."""
    protocol: RankingProtocol | None = None
    """Train a recommender on the training split of this protocol of ``palate rank``, so that it can evaluate the run;
    by default on all interactions of the training users."""


class TaskSettings(KindSettings):
    """The task and its label rule."""

    kind: str = "category-preference"
    """A registered task."""
    rule: LabelRule | None = None
    """Rule that derives labels from a category's mean rating: ``thresholds``, the paper's rule; ``own-mean``, relative
    to the user's own mean rating; ``quantiles`` of the training users' scores. By default the dataset's rule, which is
    ``thresholds`` unless it was prepared with another."""
    like_above: float | None = None
    """A category is liked if its mean rating is above this; by default derived from the rule and the dataset."""
    dislike_below: float | None = None
    """A category is disliked if its mean rating is below this; by default derived from the rule and the dataset."""
    margin: float = Field(0.2, ge=0)
    """With ``own-mean``, the distance of both thresholds from the user's mean rating, in standard deviations of the
    training users' ratings."""
    share: float = Field(0.25, gt=0, le=0.5)
    """With ``quantiles``, the fraction of the training users' scores above the upper and below the lower threshold."""
    min_count: int = Field(3, ge=1)
    """Minimum number of ratings for a category to be labelled."""
    max_labels: int = Field(3, ge=1)
    """Maximum number of liked categories, and of disliked categories, in an answer."""


AnyTaskSettings = Annotated[SerializeAsAny[TaskSettings], BeforeValidator(OfKind(registry.tasks))]
"""Settings of a registered task."""


class ItemTextSettings(Section):
    """Overrides of the dataset's templates for item texts."""

    noun: str | None = None
    """Singular noun for an item."""
    field: str | None = None
    """Plural noun for the categories."""
    listed: str | None = None
    """Template of an item with categories: ``{noun}``, ``{field}``, ``{title}``, ``{categories}``."""
    unlisted: str | None = None
    """Template of an item without categories: ``{noun}``, ``{field}``, ``{title}``."""
    rated: str | None = None
    """Template of a rating value: ``{noun}``, ``{rating}``."""


class ItemSettings(Section):
    """The frozen sentence encoder of the item texts."""

    encoder: LocalName = "packaged:all-MiniLM-L6-v2"
    """Sentence encoder: a hub name, a folder, or ``packaged:all-MiniLM-L6-v2`` for the pip package."""
    revision: str | None = None
    """Hub revision (branch, tag or commit)."""
    batch_size: int = Field(32, ge=1)
    """Texts per forward pass of the encoder."""
    max_seq_length: int = Field(256, ge=8)
    """Texts are truncated to this many tokens."""
    cache: LocalPath | None = None
    """Folder of the item vector cache; by default in the user's cache folder."""
    texts: ItemTextSettings = ItemTextSettings()


class WindowSettings(Section):
    """Windows: the interactions of a history that the model reads."""

    kind: WindowKind = "recent"
    """``recent`` or ``random`` interactions."""
    shortest: int = Field(50, ge=1)
    """Minimum window size in training, in interactions; sizes are drawn log-uniformly."""
    longest: int = Field(50, ge=1, validate_default=True)
    """Maximum window size in training; equal to ``shortest`` for a fixed size."""

    @field_validator("longest")
    @classmethod
    def _not_shorter_than_the_shortest(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("shortest", 1):
            raise ValueError(f"must be at least windows.shortest, which is {info.data['shortest']}")
        return longest


class RandomT5Settings(Section):
    """A randomly initialised T5 v1.1 with a tokenizer trained on the data; needs no hub."""

    kind: Literal["random-t5"] = "random-t5"
    d_model: int = Field(128, ge=8)
    """Size of the residual stream."""
    d_ff: int = Field(256, ge=8)
    """Size of the feed-forward layers."""
    num_heads: int = Field(4, ge=1)
    """Attention heads per layer, each of size d_model / num_heads."""
    num_layers: int = Field(2, ge=1)
    """Layers in the encoder, and in the decoder."""
    dropout: float = Field(0.0, ge=0, lt=1)
    attention: Literal["full", "local", "transient-global"] = "full"
    """Encoder self-attention: T5's, or one of LongT5's two, which are linear in the sequence length."""
    local_radius: int = Field(127, ge=1)
    """Tokens to either side that LongT5's local attention covers."""
    vocab_size: int = Field(2000, ge=64)
    """Maximum vocabulary size of the tokenizer."""
    item_texts: bool = False
    """Train the tokenizer on the item texts too, not only on the task's texts; always so with a text history."""


class PretrainedSettings(Section):
    """A pretrained backbone, and which of its weights are trained."""

    name: LocalName
    revision: str | None = None
    train: Literal["full", "lora", "frozen"] = "full"
    """Train all weights, LoRA adapters or none; with ``lora`` and ``frozen`` only trained weights are saved."""
    lora_r: int = Field(8, ge=1)
    """Rank of the LoRA updates."""
    lora_alpha: int | None = Field(None, ge=1)
    """Scaling of the LoRA updates: they are multiplied by lora_alpha / lora_r. Twice ``lora_r`` if not given."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the input of the LoRA layers."""
    lora_target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the modules to adapt, matched at the end; ``all-linear`` is every linear layer but the output layer."""


class PretrainedT5Settings(PretrainedSettings):
    """A pretrained T5, T5 v1.1, LM-adapted T5, Flan-T5 or LongT5."""

    kind: Literal["t5"] = "t5"
    name: LocalName = "google/flan-t5-base"
    """A hub name or a folder."""


class CausalSettings(PretrainedSettings):
    """A pretrained decoder-only model (Llama, Qwen, Gemma …)."""

    kind: Literal["causal"] = "causal"
    name: LocalName = "packaged:gemma3-270m"
    """A hub name, a folder, a file ``*.gguf``, or ``packaged:gemma3-270m`` for the pip package."""
    chat: bool = False
    """Apply the model's chat template, as instruction-tuned models expect."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of frozen weights; bfloat16 halves their memory. Everything else is float32."""

    @field_validator("dtype")
    @classmethod
    def _wide_where_it_is_trained(cls, dtype: str, info: ValidationInfo) -> str:
        if dtype == "bfloat16" and info.data.get("train") == "full":
            raise ValueError(
                "bfloat16 is for frozen weights, and train is 'full'; set train to frozen or lora, or leave dtype at "
                "float32 and set the recipe's train.bf16=true"
            )
        return dtype


BackboneSettings = Annotated[
    RandomT5Settings | PretrainedT5Settings | CausalSettings, Field(discriminator="kind")
]


class TextSettings(KindSettings):
    """The history as text in the backbone's context, without a user encoder: the paper's text baselines."""

    kind: Literal["text"] = "text"
    max_length: int = Field(16_000, ge=1)
    """Maximum length of the history in tokens; the oldest items are dropped."""
    descriptions: bool = True
    """Include the item descriptions, which make up most of the text."""


class UEMSettings(KindSettings):
    """The paper's User Embedding Module: a T5 v1.1-style transformer with one user-prompt vector per item."""

    kind: Literal["uem"] = "uem"
    d_model: int | None = Field(None, ge=8)
    """Size of the residual stream; that of the concatenated item and rating vectors if not given."""
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
    """Learned latent queries with cross-attention to the items, as in PERSOMA: a user prompt of fixed length."""

    kind: Literal["resampler"] = "resampler"
    num_queries: int = Field(24, ge=1)
    """Number of latent queries, the length of the user prompt."""
    d_model: int = Field(256, ge=8)
    num_layers: int = Field(2, ge=1)
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(8, ge=1, validate_default=True)
    """Attention heads per layer; must divide d_model."""
    dropout: float = Field(0.0, ge=0, lt=1)

    @property
    def vectors(self) -> int:
        """Length M of the user prompt, in vectors."""
        return self.num_queries


class MLPSettings(KindSettings):
    """The MLP adapter of PERSOMA: each interaction by itself, with one user-prompt vector per item."""

    kind: Literal["mlp"] = "mlp"
    d_ff: int = Field(1024, ge=1)
    """Size of the hidden layers."""
    num_layers: int = Field(2, ge=1)
    """Hidden layers."""
    dropout: float = Field(0.0, ge=0, lt=1)


class PooledSettings(KindSettings):
    """A single vector, as in E2P: the mean of the history's item vectors, mapped to the user prompt by an MLP."""

    kind: Literal["pooled"] = "pooled"
    num_vectors: int = Field(1, ge=1)
    """Length of the user prompt."""
    d_ff: int = Field(1024, ge=1)
    """Size of the hidden layer."""
    dropout: float = Field(0.0, ge=0, lt=1)

    @property
    def vectors(self) -> int:
        """Length M of the user prompt, in vectors."""
        return self.num_vectors


class EquippedSettings(KindSettings):
    """A published user encoder with palate's additions: categories as input, standardised inputs, a view and names."""

    kind: Literal["equipped"] = "equipped"
    encoder: Annotated[
        UEMSettings | ResamplerSettings | MLPSettings | PooledSettings, Field(discriminator="kind")
    ] = ResamplerSettings()
    d_model: int = Field(128, ge=8)
    """Number of input channels of an item and of a rating."""
    standardised: bool = True
    """Initialise these channels from the catalogue: centred and scaled, with the categories and the rating first."""
    categories: bool = True
    """Concatenate the item's category mask to its vectors."""
    view: bool = True
    """Predict liked and disliked categories from the user prompt, for the loss of ``train.auxiliary_weight``."""
    named: int = Field(3, ge=0)
    """Number of liked, and of disliked, categories whose name embeddings are prepended to the user prompt."""

    @field_validator("named")
    @classmethod
    def _by_a_view(cls, named: int, info: ValidationInfo) -> int:
        if named and not info.data.get("view", True):
            raise ValueError("needs view=true, which selects the categories; set named=0")
        return named

    @property
    def vectors(self) -> int | None:
        """Length M of the user prompt, in vectors; None if it is that of the window and the names."""
        own = getattr(self.encoder, "vectors", None)
        return None if own is None else own + 2 * self.named


class StreamingSettings(KindSettings):
    """Attention pooling into a fixed number of latent queries, with a state to which events are added and removed."""

    kind: Literal["streaming"] = "streaming"
    num_queries: int = Field(24, ge=2)
    """Number of latent queries, each with one user-prompt vector. The first ones are initialised from the catalogue's
    categories, the next one from all items."""
    d_model: int = Field(128, ge=8)
    num_layers: int = Field(2, ge=0)
    """Transformer layers over the latent queries."""
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(4, ge=1, validate_default=True)
    """Attention heads per layer; must divide d_model."""
    dropout: float = Field(0.0, ge=0, lt=1)
    recency: bool = False
    """Learn a decay rate per query; needs timestamps that are times."""
    named: int = Field(0, ge=0)
    """Number of liked, and of disliked, categories whose name embeddings are appended to the user prompt in order of
    likelihood, which gives a frozen backbone less to learn."""

    @property
    def vectors(self) -> int:
        """Length M of the user prompt, in vectors."""
        return self.num_queries + 2 * self.named


class UniversalSettings(KindSettings):
    """A catalogue-free user encoder: its inputs are counts by category and a summary of the population."""

    kind: Literal["universal"] = "universal"
    d_model: int = Field(64, ge=8)
    num_layers: int = Field(2, ge=0)
    """Transformer layers over the categories."""
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(4, ge=1, validate_default=True)
    """Attention heads per layer; must divide d_model."""
    most: int = Field(3, ge=1)
    """Maximum number of liked, and of disliked, categories named in the user prompt."""
    max_name_tokens: int = Field(24, ge=1)
    """Maximum length of a name in the user prompt in tokens; longer names are truncated."""
    pooled: int = Field(4, ge=1, le=8)
    """Number of user-prompt vectors pooled over all categories; with headings, commas and ends, at most 16 vectors are
    not a name's if three categories are named as liked and three as disliked."""
    own: int = Field(0, ge=0)
    """Number of categories with a learned vector, added when a training starts from the model (``model.start``);
    ignored for other data."""
    plain_names: bool = False
    """Write names in the user prompt as the backbone's token embeddings, without learned marks: for a backbone that is
    not trained and cannot learn to read the marks."""
    latent: StreamingSettings | None = None
    """Latent queries over the vectors of item texts, which correct the log-odds; a user's state holds their sums, too.
    They bind the model to one catalogue. By default none: the model is catalogue-free."""

    @property
    def vectors(self) -> int:
        """Maximum length M of the user prompt, in vectors."""
        return self.pooled + 2 * (1 + self.most * (self.max_name_tokens + 1))


UserEncoderSettings = Annotated[SerializeAsAny[KindSettings], BeforeValidator(OfKind(registry.user_encoders))]
"""Settings of a registered user encoder."""


BESIDE_A_BACKBONE = ("backbone", "task_prompt", "task_prompt_text")
"""Model settings allowed with ``start`` if a frozen backbone replaces the start's."""
BESIDE_A_START = ("user_encoder",)
"""Model settings allowed with ``start`` if latent queries are added to its user encoder."""


class ModelSettings(Section):
    """The parts of the model."""

    start: LocalName | None = None
    """Catalogue-free model to start the training from: a run, a model's folder, or ``packaged`` for palate's own. It
    contains all parts, so that other settings of this section are not allowed, and only the weights that read the
    statistics of a history are trained. Two exceptions: a ``user_encoder`` with equal settings may add ``latent``
    queries, which are trained, too; and a frozen ``backbone`` replaces the model's, in which case only an adapter is
    trained: the vectors around the names in the user prompt, and the task prompt."""
    backbone: BackboneSettings = PretrainedT5Settings()
    user_encoder: UserEncoderSettings = UEMSettings()
    task_prompt: int = Field(20, ge=0)
    """Length k of the task prompt K, in vectors."""
    task_prompt_text: str | None = None
    """Text whose token embeddings initialise K, repeated or truncated to its length; by default random tokens."""
    user_first: bool = False
    """Place the task prompt after the user prompt instead of before it: the encoded user is then independent of the
    task, and a text history needs no gradients."""
    conditioning: ConditioningKind = "prompt"
    """How the backbone receives the user's vectors: in the ``prompt``, or by ``cross-attention`` of its layers, as in
    User-LLM. The cross-attention is gated, and its gates start closed."""
    cross_attention_every: int = Field(1, ge=1)
    """With ``cross-attention``, attend after every n-th layer, counted from the last."""
    event_texts: bool = False
    """Read the texts that users wrote about events, such as reviews, as another field of an event's vectors, encoded
    like item texts; for user encoders that read vectors."""
    user_encoder_from: LocalPath | None = None
    """Run whose trained user encoder initialises this one; it has the same kind, size, items and categories, but may
    have another backbone."""
    grammar: bool = False
    """Constrain decoding to valid answers: categories of the catalogue, each at most once, liked or disliked."""
    like_tokens: bool = False
    """Scale user prompt and task prompt, throughout training, to the average distance of the backbone's token
    embeddings from their mean: for backbones that are not trained. Token embeddings in it are not scaled."""

    @field_validator("event_texts")
    @classmethod
    def _beside_vectors(cls, event_texts: bool, info: ValidationInfo) -> bool:
        encoder = info.data.get("user_encoder")
        if event_texts and isinstance(encoder, TextSettings | UniversalSettings):
            raise ValueError(
                f"event texts require item vectors, which a {encoder.kind!r} user encoder does not read; set "
                "event_texts=false, or use 'streaming', 'resampler', 'uem', 'mlp', 'pooled' or 'equipped'"
            )
        return event_texts

    @field_validator("conditioning")
    @classmethod
    def _of_a_user_encoder(cls, conditioning: str, info: ValidationInfo) -> str:
        if conditioning == "cross-attention":
            if isinstance(info.data.get("user_encoder"), TextSettings | UniversalSettings):
                raise ValueError(
                    "'cross-attention' requires user vectors, not a text history; set it to 'prompt'"
                )
            if info.data.get("user_first"):
                raise ValueError("'cross-attention' has no user prompt in the input; set user_first=false")
        return conditioning

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ModelSettings:
        others = {name: field.default for name, field in type(self).model_fields.items() if name != "start"}
        given = [name for name in others if getattr(self, name) != others[name]]
        if self.start is None or not given:
            return self
        if self.added_latent is not None:
            given = [name for name in given if name not in BESIDE_A_START]
        if "backbone" in given:
            if getattr(self.backbone, "train", "full") != "frozen":
                raise ValueError("with start, the backbone must be frozen; set backbone.train=frozen")
            given = [name for name in given if name not in BESIDE_A_BACKBONE]
        if given:
            raise ValueError(
                f"start is a complete model, but {', '.join(given)} is also given; leave one of them out"
            )
        return self

    @property
    def added_latent(self) -> StreamingSettings | None:
        """Latent queries to add to the start's user encoder; None for none."""
        encoder = self.user_encoder
        return encoder.latent if self.start is not None and isinstance(encoder, UniversalSettings) else None

    @property
    def exchanged_backbone(self) -> PretrainedT5Settings | CausalSettings | None:
        """The frozen backbone that replaces the start's; None if the start keeps its own."""
        if self.start is None or isinstance(self.backbone, RandomT5Settings):
            return None
        return self.backbone if self.backbone.train == "frozen" else None


class SimulationSettings(Section):
    """Simulated users over the real catalogue."""

    users: int = Field(0, ge=0)
    """Number of users simulated from the training users' statistics; 0 for none."""
    share: float = Field(0.75, ge=0, le=1)
    """Fraction of each training batch that is drawn from simulated users."""


class TrainSettings(Section):
    """The training loop."""

    max_steps: int = Field(10_000, ge=0)
    """Number of optimizer steps; 0 saves the untrained model."""
    max_minutes: float | None = Field(None, gt=0)
    """Time limit in minutes, to which the schedule is compressed. For trials: the result depends on the machine's
    speed and load, and evaluations warn about it."""
    threads: int | None = Field(None, ge=1)
    """Number of CPU threads; by default one per core. It affects results in the last digits: with the same number of
    threads on the same kind of processor, a recipe gives bit-identical weights."""
    per_device_train_batch_size: int = Field(128, ge=1)
    """Windows per batch on one device; with ``global_batch_size``, the maximum."""
    rounds: int = Field(1, ge=1)
    """Questions about each window of a batch, one kind per round; a decoder-only backbone prefills their shared prefix
    once."""
    sampled_tokens: int = Field(0, ge=0)
    """Sampled softmax: score answers against this many random tokens, weighted to represent the rest of the
    vocabulary, besides the likely tokens and the answers' own; 0 for the full softmax. For decoder-only backbones
    that are not fully trained, where a large vocabulary may take most of a step."""
    windows_per_user: int = Field(1, ge=1)
    """Windows per user in a batch."""
    length_groups: int = Field(1, ge=1)
    """Draw the users of this many batches together and group them by history length, which reduces padding."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches whose gradients are accumulated per optimizer step."""
    global_batch_size: int | None = Field(None, ge=1)
    """Windows per optimizer step over all processes, divided evenly; a process accumulates gradients if its share
    exceeds ``per_device_train_batch_size``. By default each process has a batch of ``per_device_train_batch_size``."""
    shard_parameters: bool = False
    """Shard parameters, gradients and optimizer states over the processes of a training (FSDP2), for models too large
    for one device; requires ``adamw_torch``."""
    optim: Literal["adamw_torch", "adafactor"] = "adamw_torch"
    """Optimizer."""
    scale_parameter: bool = True
    """With ``adafactor``, multiply the learning rate of each weight matrix by its root mean square, as in T5's
    training; otherwise the rate is absolute, typically 1e-3."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of the user encoder and the task prompt."""
    backbone_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the backbone; ``learning_rate`` if not given."""
    task_prompt_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the task prompt; by default ``learning_rate``. Its values have the scale of token
    embeddings, so that with a frozen backbone the user encoder's rate is far too low for it."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate schedule after the warmup; cosine and linear decay to 2% of the peak."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Fraction of the training over which the learning rate increases linearly."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of all trained weights."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Maximum gradient norm, for clipping."""
    bf16: bool = False
    """Train in bfloat16 mixed precision; float32 otherwise."""
    gradient_checkpointing: bool = False
    """Recompute the backbone's activations in the backward pass, to save memory."""
    torch_compile: bool = False
    """Compile the layers of the backbone and the user encoder for training steps (``torch.compile``): faster and with
    less memory on a GPU, after a minute or more of compilation in the first steps. Results differ in the last digits.
    """
    torch_compile_backend: str = "inductor"
    """Backend of ``torch_compile``."""
    auxiliary_weight: float = Field(0.0, ge=0)
    """Weight of the auxiliary per-category loss of the user encoder; 0 disables it."""
    auxiliary_only_ratio: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training, from the start, with the auxiliary loss only, without the backbone."""
    answers: Literal["truth", "view", "decided"] = "truth"
    """Training targets: the labels (``truth``), the answer with the highest expected F1 under the user encoder's
    category probabilities (``view``), or the names that the user encoder has selected for the user prompt
    (``decided``). The answers to questions about categories then follow its expected scores, and those about items
    follow random expected ratings, which the items come with."""
    random_wordings: bool = False
    """Ask in random wordings, put together of parts, besides the fixed ones; held-out wordings are never used."""
    questions: dict[QuestionKind, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Proportions of the kinds of questions (preference, liked, disliked, yes-no, pair, rating, item-yes-no,
    item-pair), each in several wordings; by default only the task's instruction. ``null`` clears the kinds of an
    extended recipe, or removes one kind (``train.questions.pair=null``)."""
    window_labels: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training, from the start, with labels computed from the window instead of the full history."""
    eval_steps: int = Field(500, ge=1)
    """Steps between evaluations on dev users and between checkpoints."""
    eval_users: int = Field(512, ge=1)
    """Maximum number of dev users in these evaluations."""
    eval_windows: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Window sizes over which the dev score is averaged; by default only ``evaluate.window``."""
    eval_draws: int = Field(1, ge=1)
    """Number of windows of each size drawn per dev user; more reduce the variance of the dev score."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without an improvement of the dev score."""
    report_to: tuple[str, ...] = ()
    """Installed experiment trackers supported by transformers (``wandb``, ``mlflow``, …); TensorBoard files are always
    written if the extra ``tensorboard`` is installed."""

    @property
    def windows_per_step(self) -> int:
        """Windows per optimizer step: of all processes with ``global_batch_size``, otherwise of each."""
        own = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return self.global_batch_size or own

    def shared_by(self, processes: int) -> TrainSettings:
        """Return the settings of one of several processes, without ``global_batch_size``.

        The batches of a process are as large as possible, to minimise gradient accumulation.

        Raises:
            ValueError: The global batch size is not divisible by the number of processes.
        """
        if self.global_batch_size is None:
            return self
        share, rest = divmod(self.global_batch_size, processes)
        if rest:
            raise ValueError(
                f"train.global_batch_size is {self.global_batch_size}, which is not divisible by {processes} "
                "processes; use a number of processes that divides it"
            )
        fewest = -(-share // self.per_device_train_batch_size)
        passes = next(count for count in range(fewest, share + 1) if share % count == 0)
        return self.model_copy(
            update={
                "global_batch_size": None,
                "per_device_train_batch_size": share // passes,
                "gradient_accumulation_steps": passes,
            }
        )

    @field_validator("optim")
    @classmethod
    def _divides(cls, optim: str, info: ValidationInfo) -> str:
        if optim == "adafactor" and info.data.get("shard_parameters"):
            raise ValueError(
                "does not support shard_parameters; use adamw_torch, or leave shard_parameters out"
            )
        return optim

    @field_validator("global_batch_size")
    @classmethod
    def _without_a_number_of_its_own(cls, size: int | None, info: ValidationInfo) -> int | None:
        if size is not None and info.data.get("gradient_accumulation_steps", 1) > 1:
            raise ValueError("determines the accumulation; set gradient_accumulation_steps=1 with it")
        return size

    @field_validator("questions", mode="before")
    @classmethod
    def _taken_back(cls, questions: object) -> object:
        if isinstance(questions, Mapping):
            return {kind: share for kind, share in questions.items() if share is not None}
        return {} if questions is None else questions

    @field_validator("questions")
    @classmethod
    def _for_the_rounds(
        cls, questions: dict[QuestionKind, float], info: ValidationInfo
    ) -> dict[QuestionKind, float]:
        if info.data.get("rounds", 1) > 1 and not questions:
            raise ValueError(
                "needs at least two kinds of questions if train.rounds is greater than 1; set rounds=1"
            )
        return questions

    @field_validator("auxiliary_only_ratio")
    @classmethod
    def _with_a_loss(cls, alone: float, info: ValidationInfo) -> float:
        if alone and not info.data.get("auxiliary_weight", 1.0):
            raise ValueError("needs train.auxiliary_weight above 0, the only loss in that phase")
        return alone

    @field_validator("answers")
    @classmethod
    def _with_a_view(cls, answers: str, info: ValidationInfo) -> str:
        if answers == "view" and not info.data.get("auxiliary_weight", 1.0):
            raise ValueError(
                "'view' needs train.auxiliary_weight above 0, the loss that trains the user encoder's view"
            )
        return answers


class EvaluateSettings(Section):
    """Generation and scoring of answers."""

    window: int = Field(50, ge=1)
    """Window size: the number of interactions that the model reads."""
    batch_size: int = Field(128, ge=1)
    """Maximum number of users per batch. Evaluation runs in one process, whatever the number of devices."""
    batch_tokens: int = Field(65_536, ge=1)
    """Maximum number of input vectors of the backbone per batch, including padding, which limits the batch size of
    long histories; a single history may exceed it."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Maximum length of an answer in tokens; by default 48, or the longest possible target if that is longer."""


class RecommendSettings(Section):
    """A recommender, trained in place of a language model: scores, ratings and choices from the catalogue."""

    history: int = Field(1000, ge=1)
    """Maximum number of newest interactions that items are scored by; ratings are predicted from all interactions."""
    ordered: bool | Literal["auto"] = "auto"
    """Whether the order of interactions is used; otherwise a history is a set.

    ``auto`` treats data with times as ordered, and data without times unless most histories follow one common order of
    the items, as in a sorted file.
    """
    neighbours: int = Field(300, ge=1)
    """Maximum number of neighbours of an item by co-occurrence and by succession; the regression keeps all."""
    damping: float = Field(5.0, ge=0)
    """Constant added to the denominator of a co-occurrence, which damps those of rare items."""
    ridge: float | None = Field(None, gt=0)
    """L2 penalty of the linear regression of each item on all others; by default chosen on held-out interactions."""
    ridge_items: int = Field(5000, ge=0)
    """Maximum number of items for which this regression is computed; memory is quadratic in it."""
    texts: bool = True
    """Relate items by their text vectors, encoded as set in ``items``; skipped if titles are only ids."""
    text_size: int = Field(64, ge=1)
    """Number of principal components of the text vectors."""
    held_out: float = Field(0.1, gt=0, lt=1)
    """Fraction of the training users on whose held-out interactions the weights are learned."""
    rounds: int = Field(3, ge=1)
    """Maximum number of passes over the weights."""
    network_size: int = Field(64, ge=0)
    """Size of the item vectors of the network trained beside the relations; 0 for no network."""
    network_epochs: int = Field(12, ge=1)
    """Maximum number of epochs, of at most 50,000 histories each; stops early on held-out interactions."""
    network_dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout on the values of a history's sums."""
    network_learning_rate: float = Field(0.003, gt=0)
    """Learning rate of Adam."""
    rating_models: int = Field(4, ge=0)
    """Number of rating models with different initial values, whose predictions are averaged; 0 predicts no ratings."""
    rating_rank: int = Field(12, ge=1)
    """Number of factors of each rating model."""
    rating_iterations: int = Field(30, ge=1)
    """Number of passes over users and items."""


class RecommendSection(RecommendSettings):
    """The section ``recommend`` of a recipe."""

    beside_model: bool = False
    """Train the recipe's language model, too, and save the recommender in the folder ``recommender`` of its run, where
    other commands find it. With fewer than two categories only the recommender is trained."""


class RandomCausalSettings(Section):
    """A random decoder-only model (GPT-2's layers) with a tokenizer trained on the texts; needs no hub."""

    kind: Literal["random-causal"] = "random-causal"
    d_model: int = Field(128, ge=8)
    """Size of the residual stream."""
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(4, ge=1, validate_default=True)
    """Attention heads per layer; must divide d_model."""
    num_layers: int = Field(2, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    vocab_size: int = Field(4000, ge=64)
    """Maximum vocabulary size of the tokenizer."""


class PeplerSettings(Section):
    """PEPLER: generates explanations and predicts ratings from a user vector and an item vector."""

    backbone: Annotated[RandomCausalSettings | CausalSettings, Field(discriminator="kind")] = CausalSettings(
        name="openai-community/gpt2"
    )
    """A decoder-only model; with ``train: lora`` or ``frozen`` the last stage trains its adapters or none of it."""
    prompt: Literal["continuous", "discrete"] = "continuous"
    """Learned vectors of users and items (``continuous``), or words (``discrete``): titles and categories if items
    have titles, otherwise the most characteristic words of training reviews."""
    rating: Literal["none", "mf", "mlp"] = "none"
    """Rating regularisation: predict ratings from the vectors too, by their product or by a small network."""
    rating_weight: float = Field(0.01, gt=0)
    """Weight of the squared error, added to the cross entropy."""
    rating_offset: bool = True
    """Predict the difference from the mean training rating; otherwise the rating itself, as published."""
    mlp_size: int = Field(400, ge=1)
    """Size of the hidden layers of ``mlp``."""
    mlp_layers: int = Field(2, ge=1)
    """Hidden layers of ``mlp``."""
    protocol: Literal["leave-last-out", "new-users", "random"] = "leave-last-out"
    """Held-out data: each user's last interaction, entire users, or a random tenth of the interactions."""
    max_words: int = Field(20, ge=1)
    """Maximum length of an explanation, the first words of a review."""
    prompt_words: int = Field(16, ge=1)
    """Number of words of the user, and of the item, in a discrete prompt."""
    language_steps: int = Field(0, ge=0)
    """Number of language-modelling steps of a random backbone on the training texts, in place of pretraining."""
    prompt_steps: int = Field(1000, ge=0)
    """Maximum number of steps of the first stage, which trains vectors and rating network with a frozen backbone."""
    tuning_steps: int = Field(1000, ge=0)
    """Maximum number of steps of the second stage, which trains the backbone, too."""
    newcomer_steps: int = Field(0, ge=0)
    """Maximum number of training steps of a user encoder that computes vectors for users who were not trained on."""
    newcomer_rating_weight: float = Field(1.0, gt=0)
    """Weight of the squared error, added to the cross entropy, in the training of this user encoder with all other
    weights frozen: with ``rating_weight`` its vectors favour likelier texts, and predicted ratings leave the scale."""
    newcomer_window: int = Field(20, ge=1)
    """Maximum number of newest events that this user encoder reads."""


class Recipe(Section):
    """All settings of a run.

    Example:
        >>> recipe = palate.Recipe(seed=1, train={"max_steps": 100})
        >>> recipe.train.max_steps, recipe.windows.kind
        (100, 'recent')
    """

    name: str = "run"
    seed: int = Field(0, ge=0, le=2**32 - 1)
    data: DataSettings = DataSettings()
    task: AnyTaskSettings = TaskSettings()
    items: ItemSettings = ItemSettings()
    windows: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    simulation: SimulationSettings = SimulationSettings()
    train: TrainSettings = TrainSettings()
    recommend: RecommendSection | None = None
    """If set, the run trains a recommender; of the other settings only name, seed, data, items and train.threads
    apply, unless ``beside_model`` is set."""
    pepler: PeplerSettings | None = None
    """If set, the run trains PEPLER; of the other settings only name, seed, data and, of ``train``, threads, batches,
    learning rates, precision, clipping and evaluations apply; with ``newcomer_steps`` also items, model.user_encoder
    and model.event_texts. The learning rates are constant. Other settings are refused."""
    generative: AnyGenerativeSettings | None = None
    """If set, the run trains a generative recommender; of the other settings only name, seed, data, model.backbone and
    of ``train`` threads, steps, batches, learning rates and their schedule, precision, clipping and evaluations apply;
    with the family ``categories`` also task, windows, model.grammar, train.window_labels and evaluate.window. Other
    settings are refused."""
    evaluate: EvaluateSettings = EvaluateSettings()

    @field_validator("recommend", mode="before")
    @classmethod
    def _as_section(cls, given: Any) -> Any:
        return given.model_dump() if isinstance(given, RecommendSettings) else given

    @property
    def is_recommenders(self) -> bool:
        """Whether the run is that of a recommender alone."""
        return self.recommend is not None and not self.recommend.beside_model

    def of_recommender(self) -> Recipe:
        """Return the recipe of the recommender alone; for one with a section ``recommend``."""
        assert self.recommend is not None
        alone = self.recommend.model_copy(update={"beside_model": False})
        threads = TrainSettings(threads=self.train.threads)
        return Recipe(
            name=self.name, seed=self.seed, data=self.data, items=self.items, train=threads, recommend=alone
        )

    @model_validator(mode="after")
    def _attended_to_again(self) -> Recipe:
        if self.train.gradient_checkpointing and self.model.conditioning == "cross-attention":
            raise ValueError(
                "train.gradient_checkpointing does not work with model.conditioning=cross-attention, whose user "
                "vectors are no longer available when layers are recomputed; set it to false, or "
                "model.conditioning=prompt"
            )
        return self

    @model_validator(mode="after")
    def _ranked_by_a_protocol(self) -> Recipe:
        if self.data.protocol is not None and not self.is_recommenders and self.generative is None:
            raise ValueError(
                f"data.protocol is {self.data.protocol!r}, which applies to recommenders only; leave it out, or add a "
                "section 'recommend', which may be empty: {}"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_run(self) -> Recipe:
        if self.generative is None:
            return self
        if self.recommend is not None or self.pepler is not None:
            raise ValueError(
                "'recommend', 'pepler' and 'generative' are separate kinds of runs; give only one of them"
            )
        if "categories" in self.generative.families and self.data.protocol not in (None, "new-users"):
            raise ValueError(
                f"data.protocol is {self.data.protocol!r}, which trains on test users, and the family 'categories' is "
                "evaluated on users outside the training data; set data.protocol to new-users, or leave it out"
            )
        backbone = self.model.backbone
        if isinstance(backbone, CausalSettings) or getattr(backbone, "train", "full") != "full":
            raise ValueError(
                f"generative.kind={self.generative.kind} trains all weights of a T5; set model.backbone.kind to t5 or "
                "random-t5, with train=full"
            )
        return self
