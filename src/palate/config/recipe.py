"""Recipe settings: every setting of a run, validated before any work starts.

A recipe is a YAML file that holds only the settings that differ from the defaults below.
"""

from __future__ import annotations

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
    """Train a recommender on what this protocol of ``palate rank`` lets be learned from, so that the run can be ranked
    by it; on all interactions of the training users if not given."""


class TaskSettings(KindSettings):
    """The task and its label rule."""

    kind: str = "category-preference"
    """A registered task."""
    rule: LabelRule | None = None
    """How a category's mean rating becomes a label: ``thresholds``, the paper's rule; ``own-mean``, relative to the
    user's own mean rating; ``quantiles``, by the training users' scores. The dataset's rule if not given, which is
    ``thresholds`` unless it was prepared with another."""
    like_above: float | None = None
    """A category is liked if its mean rating is above this; by the rule and the dataset if not given."""
    dislike_below: float | None = None
    """A category is disliked if its mean rating is below this; by the rule and the dataset if not given."""
    margin: float = Field(0.2, ge=0)
    """With ``own-mean``, how far from the user's mean rating a category's must be, in standard deviations of the
    training users' ratings."""
    share: float = Field(0.25, gt=0, le=0.5)
    """With ``quantiles``, the share of the training users' categories that lies above the one threshold, and below the
    other."""
    min_count: int = Field(3, ge=1)
    """Minimum number of ratings for a category to be labelled."""
    max_labels: int = Field(3, ge=1)
    """Maximum number of liked categories, and of disliked categories, in an answer."""


AnyTaskSettings = Annotated[SerializeAsAny[TaskSettings], BeforeValidator(OfKind(registry.tasks))]
"""Settings of a registered task."""


class ItemTextSettings(Section):
    """Overrides of the dataset's templates for item texts."""

    noun: str | None = None
    """What an item is called, in the singular."""
    field: str | None = None
    """What the categories are called, in the plural."""
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
    """Folder of the item vector cache; in the user's cache folder if not given."""
    texts: ItemTextSettings = ItemTextSettings()


class WindowSettings(Section):
    """Which interactions of a history the model reads."""

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
                "bfloat16 is for weights that are not trained, and train is 'full'; set train to frozen or lora, or "
                "leave it at float32 and set the recipe's train.bf16=true"
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
    """Another user encoder with what palate's own has: exact categories, standardised inputs, a view and names."""

    kind: Literal["equipped"] = "equipped"
    encoder: Annotated[
        UEMSettings | ResamplerSettings | MLPSettings | PooledSettings, Field(discriminator="kind")
    ] = ResamplerSettings()
    d_model: int = Field(128, ge=8)
    """Channels of an item and of a rating that the encoder reads."""
    standardised: bool = True
    """Initialise these channels from the catalogue: centred and scaled, with the categories and the rating first."""
    categories: bool = True
    """Read an item's categories as they are, beside its vectors."""
    view: bool = True
    """Predict from the user prompt which categories are liked and disliked, for ``train.auxiliary_weight``."""
    named: int = Field(3, ge=0)
    """Number of liked, and of disliked, categories whose name embeddings stand before the user prompt."""

    @field_validator("named")
    @classmethod
    def _by_a_view(cls, named: int, info: ValidationInfo) -> int:
        if named and not info.data.get("view", True):
            raise ValueError("needs view=true, by which categories are named; set named=0")
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
    """A user encoder whose weights know no catalogue: it reads counts by category and a summary of the population."""

    kind: Literal["universal"] = "universal"
    d_model: int = Field(64, ge=8)
    num_layers: int = Field(2, ge=0)
    """Transformer layers over the categories."""
    num_heads: Annotated[int, AfterValidator(_divides_d_model)] = Field(4, ge=1, validate_default=True)
    """Attention heads per layer; must divide d_model."""
    most: int = Field(3, ge=1)
    """Maximum number of liked, and of disliked, categories whose names stand in the user prompt."""
    max_name_tokens: int = Field(24, ge=1)
    """Maximum length of a name in the user prompt in tokens; longer names are cut there."""
    pooled: int = Field(4, ge=1, le=8)
    """Vectors of the user prompt that are pooled from all categories; with headings, commas and ends, at most 16 are
    not a name's where three are named in each half."""
    own: int = Field(0, ge=0)
    """Categories with a vector of their own, which a training on their data gives them (``model.start``); other data
    is read without."""
    plain_names: bool = False
    """Names stand in the user prompt as the backbone's own token embeddings, without learned marks: for a backbone
    that is not trained, which cannot learn to read these."""
    latent: StreamingSettings | None = None
    """Latent queries over the vectors of items' texts, whose sums a user's state holds too, and which correct the
    log-odds: they know one catalogue, so that the model can be bound to no other. None for one of any catalogue."""

    @property
    def vectors(self) -> int:
        """Maximum length M of the user prompt, in vectors."""
        return self.pooled + 2 * (1 + self.most * (self.max_name_tokens + 1))


UserEncoderSettings = Annotated[SerializeAsAny[KindSettings], BeforeValidator(OfKind(registry.user_encoders))]
"""Settings of a registered user encoder."""


BESIDE_A_BACKBONE = ("backbone", "task_prompt", "task_prompt_text")
"""Settings of the model that are given beside ``start`` where a frozen backbone takes the place of its own."""
BESIDE_A_START = ("user_encoder",)
"""Settings of the model that are given beside ``start`` where latent queries are added to its user encoder."""


class ModelSettings(Section):
    """The parts of the model."""

    start: LocalName | None = None
    """Model that the training starts from, whose weights know no catalogue: a run, a model's folder, or ``packaged``
    for the one that comes with palate. It brings all its parts, so that no other setting of this section is given; of
    its weights those are trained that read the statistics of a history. A ``user_encoder`` of the same settings beside
    it may add ``latent`` queries, which are trained with them. With a frozen ``backbone`` beside it, that one
    takes the place of the model's, and what is trained is an adapter alone: the vectors around the names in the user
    prompt, and the task prompt."""
    backbone: BackboneSettings = PretrainedT5Settings()
    user_encoder: UserEncoderSettings = UEMSettings()
    task_prompt: int = Field(20, ge=0)
    """Length k of the task prompt K, in vectors."""
    task_prompt_text: str | None = None
    """Text whose token embeddings initialise K, repeated or truncated to its length; random tokens if not given."""
    user_first: bool = False
    """Place the task prompt after the user prompt, not before it: the encoded user is then independent of the task,
    and a text history needs no gradients."""
    conditioning: ConditioningKind = "prompt"
    """Where the user's vectors stand: in the ``prompt``, or beside it, where the backbone's layers attend to them by
    ``cross-attention``, as in User-LLM. A frozen or adapted backbone is left as it is until the gates open."""
    cross_attention_every: int = Field(1, ge=1)
    """With ``cross-attention``, attend after every n-th layer, counted from the last."""
    event_texts: bool = False
    """Read what users wrote of events, their reviews and notes, as one more field of an event's vectors, encoded like
    the items' texts; for user encoders that read vectors."""
    user_encoder_from: LocalPath | None = None
    """Run whose trained user encoder initialises this one: of the same kind and size and over the same items and
    categories, whatever its backbone."""
    grammar: bool = False
    """Constrain answers to what the task allows: every category at most once, in one half, from the catalogue."""
    like_tokens: bool = False
    """Scale user prompt and task prompt to the average distance of the backbone's token embeddings from their mean,
    all through training: for backbones that are not trained. Token embeddings in a user prompt stay as they are."""

    @field_validator("event_texts")
    @classmethod
    def _beside_vectors(cls, event_texts: bool, info: ValidationInfo) -> bool:
        encoder = info.data.get("user_encoder")
        if event_texts and isinstance(encoder, TextSettings | UniversalSettings):
            raise ValueError(
                f"texts of events are a field beside item vectors, which a {encoder.kind!r} user encoder does not "
                "read; set event_texts=false, or take 'streaming', 'resampler', 'uem', 'mlp', 'pooled' or 'equipped'"
            )
        return event_texts

    @field_validator("conditioning")
    @classmethod
    def _of_a_user_encoder(cls, conditioning: str, info: ValidationInfo) -> str:
        if conditioning == "cross-attention":
            if isinstance(info.data.get("user_encoder"), TextSettings | UniversalSettings):
                raise ValueError("'cross-attention' is for user vectors, and not for a prompt of tokens")
            if info.data.get("user_first"):
                raise ValueError(
                    "'cross-attention' leaves no user prompt to come first; set user_first=false"
                )
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
                raise ValueError(
                    "start keeps its weights, and backbone is one that is trained; set backbone.train=frozen"
                )
            given = [name for name in given if name not in BESIDE_A_BACKBONE]
        if given:
            raise ValueError(
                f"start brings a whole model, and {', '.join(given)} is given beside it; leave one of them out"
            )
        return self

    @property
    def added_latent(self) -> StreamingSettings | None:
        """Latent queries that are added to the start's user encoder; None if it stays without."""
        encoder = self.user_encoder
        return encoder.latent if self.start is not None and isinstance(encoder, UniversalSettings) else None

    @property
    def exchanged_backbone(self) -> PretrainedT5Settings | CausalSettings | None:
        """The frozen backbone that takes the place of the start's; None if the start keeps its own."""
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
    """Time limit in minutes, to which the schedule is compressed. For trials: the result depends on the speed and the
    load of the machine, and a warning says so wherever the model is scored."""
    threads: int | None = Field(None, ge=1)
    """CPU threads; one per core if not given. Results depend on it in their last digits: with the same number of
    threads on the same kind of processor, a recipe gives bit-identical weights."""
    per_device_train_batch_size: int = Field(128, ge=1)
    """Windows per batch on one device; with ``global_batch_size``, the most that a device takes at once."""
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
    """Windows per optimizer step over all processes, which share them evenly; each accumulates gradients where its
    share exceeds ``per_device_train_batch_size``. If not given, each process has a batch of its own."""
    shard_parameters: bool = False
    """Divide parameters, gradients and optimizer states between the processes of a training (FSDP2), which then hold
    models that one does not; takes ``adamw_torch``."""
    optim: Literal["adamw_torch", "adafactor"] = "adamw_torch"
    """Optimizer."""
    scale_parameter: bool = True
    """With ``adafactor``, multiply the learning rate of each weight matrix by its root mean square, as T5 was trained;
    otherwise the rate is absolute, and 1e-3 is a usual one."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of the user encoder and the task prompt."""
    backbone_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the backbone; ``learning_rate`` if not given."""
    task_prompt_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of the task prompt; ``learning_rate`` if not given. Its values are as large as token
    embeddings, so that with a frozen backbone it learns far too slowly at the user encoder's rate."""
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
    auxiliary_weight: float = Field(0.0, ge=0)
    """Weight of the auxiliary per-category loss of the user encoder; 0 disables it."""
    auxiliary_only_ratio: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training, from the start, with the auxiliary loss only, without the backbone."""
    answers: Literal["truth", "view", "decided"] = "truth"
    """Training targets: the labels (``truth``), the answer with the highest expected F1 under the user encoder's
    category probabilities (``view``), or the names that the user encoder has decided on and that stand in the user
    prompt (``decided``)."""
    questions: dict[QuestionKind, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Proportions of the kinds of questions (preference, liked, disliked, yes-no, pair, rating), each in several
    wordings; the task's own instruction if none is given. ``null`` clears the kinds of an extended recipe."""
    window_labels: float = Field(0.0, ge=0, lt=1)
    """Fraction of the training, from the start, with labels computed from the window instead of the full history."""
    eval_steps: int = Field(500, ge=1)
    """Steps between evaluations on dev users and between checkpoints."""
    eval_users: int = Field(512, ge=1)
    """Maximum number of dev users in these evaluations."""
    eval_windows: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Window sizes over which the dev score is averaged; ``evaluate.window`` if none is given."""
    eval_draws: int = Field(1, ge=1)
    """Windows of each size that are drawn of a dev user; more of them make the dev score steadier."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without an improvement of the dev score."""
    report_to: tuple[str, ...] = ()
    """Installed experiment trackers that transformers knows (``wandb``, ``mlflow``, …); TensorBoard's files are
    written wherever the extra ``tensorboard`` is installed."""

    @property
    def windows_per_step(self) -> int:
        """Windows per optimizer step: of all processes with ``global_batch_size``, otherwise of each."""
        own = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return self.global_batch_size or own

    def shared_by(self, processes: int) -> TrainSettings:
        """Return the settings of one of several processes, without ``global_batch_size``.

        The batches of a process are as large as possible, so that there are as few as possible in a step.

        Raises:
            ValueError: The processes cannot share the global batch evenly.
        """
        if self.global_batch_size is None:
            return self
        share, rest = divmod(self.global_batch_size, processes)
        if rest:
            raise ValueError(
                f"train.global_batch_size is {self.global_batch_size}, which {processes} processes cannot share "
                "evenly; take a number of processes that divides it"
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
                "is not divided by shard_parameters; take adamw_torch, or leave shard_parameters out"
            )
        return optim

    @field_validator("global_batch_size")
    @classmethod
    def _without_a_number_of_its_own(cls, size: int | None, info: ValidationInfo) -> int | None:
        if size is not None and info.data.get("gradient_accumulation_steps", 1) > 1:
            raise ValueError(
                "says how many batches are accumulated; set gradient_accumulation_steps=1 beside it"
            )
        return size

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
    """Generation and scoring of answers."""

    window: int = Field(50, ge=1)
    """Window size: the number of interactions that the model reads."""
    batch_size: int = Field(128, ge=1)
    """Maximum number of users per batch. Evaluation runs in one process, whatever the number of devices."""
    batch_tokens: int = Field(65_536, ge=1)
    """Maximum number of vectors of a batch that the backbone reads, padding included, so that long histories are
    answered a few at a time; a single one may be longer."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Maximum length of an answer in tokens; if not given 48, or the longest possible target if that is longer."""


class RecommendSettings(Section):
    """A recommender, which is trained in place of a language model: scores, ratings and choices from the catalogue."""

    history: int = Field(1000, ge=1)
    """Newest interactions of a history that items are scored by; ratings are predicted from all of them."""
    ordered: bool | Literal["auto"] = "auto"
    """Whether the order of interactions says what comes next; if not, a history is a set.

    ``auto`` takes data with times as ordered, and data without unless most histories follow one common order of the
    items, as those of a sorted file do.
    """
    neighbours: int = Field(300, ge=1)
    """Related items that are kept of each item by co-occurrence and succession; the regression keeps all."""
    damping: float = Field(5.0, ge=0)
    """Added to the denominator of a co-occurrence, so that rare items are not related by chance."""
    ridge: float | None = Field(None, gt=0)
    """Penalty of the linear regression of each item on all others; chosen by held-out interactions if left out."""
    ridge_items: int = Field(5000, ge=0)
    """Largest catalogue for which this regression is computed, in memory for its square."""
    texts: bool = True
    """Relate items by their texts, as ``items`` encodes them; skipped where titles are only ids."""
    text_size: int = Field(64, ge=1)
    """Principal components that are kept of the text vectors."""
    held_out: float = Field(0.1, gt=0, lt=1)
    """Share of the training users on whose held-out interactions the weights are learned."""
    rounds: int = Field(3, ge=1)
    """Maximum number of passes over the weights."""
    network_size: int = Field(64, ge=0)
    """Length of the item vectors of the network that is trained beside the relations; 0 for none."""
    network_epochs: int = Field(12, ge=1)
    """Most epochs of it, of at most 50,000 histories each; fewer if held-out interactions are found no better."""
    network_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of the values of a history's sums that a step of the training leaves out."""
    network_learning_rate: float = Field(0.003, gt=0)
    """Step size of Adam."""
    rating_models: int = Field(4, ge=0)
    """Models of the ratings, from different starts, whose predictions are averaged; with 0 none are predicted."""
    rating_rank: int = Field(12, ge=1)
    """Factors of each of these."""
    rating_iterations: int = Field(30, ge=1)
    """Passes over users and items."""


class RecommendSection(RecommendSettings):
    """The section ``recommend`` of a recipe."""

    beside_model: bool = False
    """Train the language model of the recipe, too, and the recommender beside it, into ``recommender`` of its run's
    folder, where all that needs one finds it. On data with fewer than two categories there is a recommender alone."""


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
    """PEPLER, which writes explanations and predicts ratings from a vector of the user and one of the item."""

    backbone: Annotated[RandomCausalSettings | CausalSettings, Field(discriminator="kind")] = CausalSettings(
        name="openai-community/gpt2"
    )
    """A decoder-only model; with ``train: lora`` or ``frozen`` the last stage trains its adapters or nothing of it."""
    prompt: Literal["continuous", "discrete"] = "continuous"
    """A learned vector of each user and item, or words of both: titles and categories where items have titles, the
    most telling words of training reviews where they have none."""
    rating: Literal["none", "mf", "mlp"] = "none"
    """Rating regularisation: predict ratings from the vectors too, by their product or by a small network."""
    rating_weight: float = Field(0.01, gt=0)
    """Weight of the squared error beside the cross entropy."""
    rating_offset: bool = True
    """Predict the difference from the mean training rating; without, the rating itself, as published."""
    mlp_size: int = Field(400, ge=1)
    """Size of the hidden layers of ``mlp``."""
    mlp_layers: int = Field(2, ge=1)
    """Hidden layers of ``mlp``."""
    protocol: Literal["leave-last-out", "new-users", "random"] = "leave-last-out"
    """What is held out: each user's last interaction, users of whom nothing is learned, or a tenth at random."""
    max_words: int = Field(20, ge=1)
    """Explanations are the first words of reviews, at most this many."""
    prompt_words: int = Field(16, ge=1)
    """Words of the user, and of the item, in a discrete prompt."""
    language_steps: int = Field(0, ge=0)
    """Steps by which a random backbone first learns the training texts alone, in place of a pretraining."""
    prompt_steps: int = Field(1000, ge=0)
    """Most steps of the first stage, which trains the vectors and the rating's network with the backbone frozen."""
    tuning_steps: int = Field(1000, ge=0)
    """Most steps of the second stage, which trains the backbone, too."""
    newcomer_steps: int = Field(0, ge=0)
    """Most steps of a user encoder that gives users who were not trained on a vector in the place of theirs."""
    newcomer_rating_weight: float = Field(1.0, gt=0)
    """Weight of the squared error beside the cross entropy in the training of that encoder, during which all other
    weights are frozen: at ``rating_weight`` its vectors make texts likelier and predicted ratings leave the scale."""
    newcomer_window: int = Field(20, ge=1)
    """Newest events of a history that it reads."""


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
    """Given, the run is a recommender's, and only name, seed, data, items and train.threads of the rest apply, unless
    it is trained beside the model."""
    pepler: PeplerSettings | None = None
    """Given, the run is PEPLER's, and only name, seed, data, items, model.user_encoder and what ``train`` says of
    threads, batches, rates, clipping and evaluations apply of the rest."""
    generative: AnyGenerativeSettings | None = None
    """Given, the run is that of a recommender that reads and writes ids as text, and only name, seed, data,
    model.backbone and the steps and the optimizer of train apply of the rest; with the family ``categories`` also
    task, windows, model.grammar, train.window_labels and evaluate.window."""
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
                "train.gradient_checkpointing computes layers again when nobody is attended to; set it to false, or "
                "model.conditioning=prompt"
            )
        return self

    @model_validator(mode="after")
    def _ranked_by_a_protocol(self) -> Recipe:
        if self.data.protocol is not None and not self.is_recommenders and self.generative is None:
            raise ValueError(
                f"data.protocol is {self.data.protocol!r}, which only a recommender is trained by; leave it out, or "
                "add a section 'recommend', which may be empty: {}"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_run(self) -> Recipe:
        if self.generative is None:
            return self
        if self.recommend is not None or self.pepler is not None:
            raise ValueError(
                "'recommend', 'pepler' and 'generative' make runs of their own; leave all but one out"
            )
        if "categories" in self.generative.families and self.data.protocol not in (None, "new-users"):
            raise ValueError(
                f"data.protocol is {self.data.protocol!r}, by which test users are learned from, and the family "
                "'categories' is evaluated on users who are not; set data.protocol to new-users, or leave it out"
            )
        backbone = self.model.backbone
        if isinstance(backbone, CausalSettings) or getattr(backbone, "train", "full") != "full":
            raise ValueError(
                f"generative.kind={self.generative.kind} trains all weights of a T5; set model.backbone.kind to t5 or "
                "random-t5, with train=full"
            )
        return self
