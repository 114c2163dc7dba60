"""What was asked for: a frozen, strict recipe in sections, each field with its unit and default.

No torch is imported here, so that ``praxiscope recipes`` and ``--help`` stay fast.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from praxiscope.recipe.presets import expand_preset

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Magnitude = Annotated[float, Field(ge=0.0, le=30.0)]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)
"""Marks words that people write in capitals as often as not: CE, SGD, AdamW."""

MONITORS = (
    "val/loss", "val/top1", "val/top5", "val/macro_f1", "val/weighted_f1", "val/balanced_acc",
    "val/macro_precision", "val/macro_recall", "val/weighted_precision", "val/weighted_recall",
)  # fmt: skip


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, defaults validated, fields documented."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataSection(Section):
    """Which samples, and how they are split."""

    source: Literal[
        "auto", "folder", "clips", "csv", "epic", "stage", "cifar", "idx", "parquet", "webdataset"
    ] = "auto"
    """Where labels come from; ``auto`` looks at what the folder holds. ``clips``: class folders in which each
    folder of pictures is a clip."""
    csv: str | None = None
    """The table of a ``csv`` source, absolute or relative to the data folder."""
    columns: dict[Literal["path", "label", "split", "group", "start", "stop", "fps"], str] = Field(
        default_factory=dict
    )
    """Column names by role, where they are not the usual ones. ``start`` and ``stop`` of a clip are frames,
    or seconds where the column's name says so (``start_s``); ``fps`` is the rate of extracted frames."""
    heads: dict[str, str] = Field(default_factory=dict)
    """Several labels a sample: column of the table by head, such as ``verb: verb_class``. A network then
    gives each head's logits, and an answer is right when all are."""
    val_fraction: Fraction = 0.1
    """Share of train (or of an undivided folder) cut for validation where the data has none."""
    test_fraction: Fraction = 0.1
    """Share of an undivided folder cut for test."""
    group: str | None = None
    """``parent``, or a regular expression with one group over a sample's path: samples of one group
    (a performer, a video) stay in one split."""
    test_groups: tuple[str, ...] = ()
    """Groups whose samples are the test split, whatever split the data gives them: leave one person out."""
    val_groups: tuple[str, ...] = ()
    """Groups whose samples are the validation split, likewise."""
    missing: Literal["report", "refuse"] = "report"
    """What to do about files that the table names and that aren't there: leave their rows out by name, or
    refuse to go on. A split that lacks all of its files is refused anyway."""
    duplicates: Literal["report", "drop-train", "refuse"] = "report"
    """What to do about samples that stand in two splits: report them, leave the earlier split's copy
    out of training, or refuse to go on."""
    val_as_test: bool = False
    """The data's own validation split is the test split, as users of ImageNet mean it; a validation split is
    then cut from train, so that no epoch is chosen on what is reported."""
    train_per_class: Count | None = None
    """Training samples of each class to keep, drawn by seed; all where not given."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Draws the splits and ``train_per_class`` in place of the recipe's seed: several seeds of a recipe then
    see the same samples."""
    pack: Annotated[int, Field(ge=16, le=1024)] | None = None
    """Read images from a packed copy whose short side has this many pixels (``praxiscope data prepare``),
    made where there is none; the images themselves where not given. An image that is reduced twice is not
    quite the same: docs/data.md gives the PSNR."""
    near_distance: Annotated[int, Field(ge=0, le=64)] = 24
    """Bits of the 256-bit difference hash below which two images are compared as near duplicates."""


class ModelSection(Section):
    """Which network, and where its weights come from."""

    name: str = "resnet18"
    """A catalogue name or any timm classifier."""
    pretrained: bool = False
    """Start from published weights; they must be on disk or be had from the model's hub."""
    weights: str | None = None
    """A weights file (``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.npz``) to start from; implies
    ``pretrained``."""
    img_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """Side of the square input in pixels; the model's own where not given."""
    num_frames: Count | None = None
    """T, frames of a clip that the network takes; for clips 8 where not given, for images nothing."""
    temporal: Literal["mean", "max", "attention", "transformer", "gru"] = "mean"
    """How a clip's frames become one answer; ``mean`` and ``max`` are blind to their order. Video networks
    join frames themselves."""
    shift_div: Annotated[int, Field(ge=0)] = 0
    """Temporal shift inside a CNN (Lin et al. 2019, TSM): with 8, an eighth of each residual block's channels
    comes from the next frame and an eighth from the one before. 0: none."""
    input: Literal["rgb", "flow"] = "rgb"
    """What a clip's frames show the network: colours, or optical flow (movement right, movement down, its
    length), computed with the extra ``flow`` or read from ``clip.flow_folder``."""
    head: Literal["linear", "conv", "mlp", "text"] = "linear"
    """What maps features to classes: one linear layer; ``conv``: two 3x3 convolutions with BatchNorm, ReLU
    and pooling on a CNN's feature map; ``mlp``: one hidden layer; ``text``: a projection and one unit vector
    for each class, as ``praxiscope zeroshot`` makes them."""
    head_hidden: Count = 512
    """Units of an ``mlp`` head's hidden layer, or length of a ``text`` head's vectors."""
    drop_rate: Fraction = 0.0
    """Dropout before the classifier."""
    drop_path_rate: Fraction = 0.0
    """Stochastic depth (Huang et al. 2016)."""
    freeze: tuple[str, ...] = ()
    """Names of submodules that don't train (``backbone`` for all but the head). Frozen means frozen:
    gradients, BatchNorm statistics, dropout."""
    freeze_depth: Annotated[int, Field(ge=0)] = 0
    """Layer groups that don't train, counted from the input: 1 is the stem or the patch embedding, then one
    for each block. The same groups as ``train.layer_decay`` counts."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of ``timm.create_model``."""


class ClipSection(Section):
    """Which frames of a clip the network sees; not used with images."""

    sampling: Literal["uniform", "segment", "dense"] = "uniform"
    """``uniform``: evenly from the first to the last frame; ``segment``: one of each of T equal parts, drawn
    in training, the middle in evaluation (Wang et al. 2016, TSN); ``dense``: T frames at ``frame_stride``,
    their start drawn in training."""
    frame_stride: Count = 2
    """``dense``: frames from one to the next."""
    num_clips: Count = 1
    """Views in time of an evaluated clip, whose logits are averaged."""
    num_crops: Literal[1, 3] = 1
    """Views in space for each of them: the centre, or both ends and the centre along the longer side
    (Feichtenhofer et al. 2019, SlowFast)."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """What decodes videos; torchcodec needs the extra and an FFmpeg that it can load."""
    pack_format: Literal["uint8", "jpeg"] = "jpeg"
    """How ``data.pack`` keeps frames: pixels, or JPEG of quality 95 in about a tenth of the space."""
    frame_base: Literal[0, 1] = 1
    """Number of a video's first frame in the annotations."""
    stop: Literal["exclusive", "inclusive"] = "exclusive"
    """Whether the annotated stop frame still belongs to the clip."""
    fps: Positive | None = None
    """Frames a second of extracted frames, where their annotations are in seconds and no column says it."""
    flow_folder: str | None = None
    """``model.input: flow``: a folder, absolute or below the data folder, with ``<clip's path without
    suffix>/u`` and ``/v`` of grey pictures, 128 for no movement, 127 for 20 px. Not given: computed."""
    flow_stride: Count = 1
    """Frames of a video from one stored flow picture to the next."""


class AugmentSection(Section):
    """What is done to a training image; evaluation images are only resized and cropped."""

    preset: str = "standard"
    """A named set of what follows, as one word (``augment: cutmix`` or ``--augmentation cutmix``); keys that
    are given beside it win. docs/recipes.md lists them."""
    repeats: Count = 1
    """Draws of each sample that stand in one batch (repeated augmentation, Hoffer et al. 2020). An epoch has
    as many samples as ever, so it sees 1 / repeats of the training split."""
    crop_padding: Annotated[int, Field(ge=0, le=256)] = 0
    """Pixels of mean colour around the image before ``img_size`` is cut out at a random place, as usual for
    small images; ``crop_scale`` and ``crop_ratio`` are not used then. 0: a random resized crop."""
    crop_scale: tuple[Probability, Probability] = (0.08, 1.0)
    """Area of the random resized crop as a share of the image (Szegedy et al. 2015)."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Aspect ratio of that crop, width over height."""
    hflip: Probability = 0.5
    """Probability of a horizontal flip."""
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment"] = "none"
    """Automatic augmentation: AutoAugment's ImageNet policy (Cubuk et al. 2019), RandAugment
    (Cubuk et al. 2020) or TrivialAugment Wide (Mueller & Hutter 2021)."""
    num_ops: Count = 2
    """RandAugment: operations an image."""
    magnitude: Magnitude = 9.0
    """RandAugment: strength on a scale of 0 to 30. timm counts to 10: its m9 is 27 here."""
    magnitude_std: NonNegative = 0.0
    """RandAugment: standard deviation of each operation's strength, on the same scale."""
    op_prob: Probability = 1.0
    """RandAugment: share of the drawn operations that are applied; all in the paper, half in timm."""
    color_jitter: NonNegative = 0.0
    """Brightness, contrast and saturation are multiplied by a factor within 1 -+ this."""
    random_erasing: Probability = 0.0
    """Probability that a rectangle is replaced by the mean colour (Zhong et al. 2020)."""
    erasing_area: tuple[Probability, Probability] = (0.02, 1 / 3)
    """Its area as a share of the image."""
    mixup: NonNegative = 0.0
    """Alpha of MixUp's Beta distribution (Zhang et al. 2018); 0 for none."""
    cutmix: NonNegative = 0.0
    """Alpha of CutMix's Beta distribution (Yun et al. 2019); 0 for none. With both, each batch draws one."""
    mix_prob: Probability = 1.0
    """Share of batches that are mixed at all."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, content: Any) -> Any:
        return expand_preset(content) if isinstance(content, (str, Mapping)) else content

    @model_validator(mode="after")
    def _check_order(self) -> AugmentSection:
        for name in ("crop_scale", "crop_ratio", "erasing_area"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; give [low, high] with 0 < low <= high")
        return self


class TrainSection(Section):
    """How the weights are found."""

    epochs: Count = 15
    """Passes over the training split."""
    batch_size: Count = 64
    """Samples of one forward pass on one device."""
    accum_steps: Count = 1
    """Forward passes of one optimiser step (gradient accumulation)."""
    opt: Annotated[str, AnyCase] = "adamw"
    """Any optimiser of timm by name: ``adamw``, ``sgd`` (with Nesterov momentum), ``lamb``, ``muon`` ..."""
    lr: Annotated[float, Field(gt=0.0, le=1e30)] = 1e-3
    """Peak learning rate; more than float32 can hold is a slip."""
    weight_decay: NonNegative = 0.05
    """Weight decay; biases and norms are left out."""
    momentum: Fraction = 0.9
    """Momentum of SGD-like optimisers; Adam-like ones keep their betas."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Learning rate of each layer group as a multiple of the next one's towards the head."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """How the learning rate goes down, an optimiser step at a time (``plateau``: an epoch at a time)."""
    warmup_epochs: NonNegative = 0.0
    """Epochs of linear warm-up from lr / 100."""
    min_lr: NonNegative = 0.0
    """Where ``cosine`` and ``plateau`` end."""
    extend: Literal["rejoin", "stretch", "hold"] = "rejoin"
    """How ``cosine`` goes on when a run is resumed with more epochs. ``rejoin``: from where it stands, it
    rises within ``extend_warmup_epochs`` to the curve that so many epochs would have had from the start, and
    follows it; ``stretch``: that curve at once; ``hold``: the rate stays where it stands."""
    extend_warmup_epochs: Positive = 1.0
    """``rejoin``: epochs of the rise."""
    decay_epochs: Positive = 30.0
    """``step``: epochs between two reductions."""
    decay_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """``step`` and ``plateau``: factor of a reduction."""
    patience_epochs: Annotated[int, Field(ge=0)] = 3
    """``plateau``: epochs without a better monitored figure before a reduction."""
    loss: Annotated[Literal["ce", "bce", "focal"], AnyCase] = "ce"
    """``ce``: softmax cross-entropy; ``bce``: a sigmoid for each class against soft targets, the mean over
    the classes (Wightman et al. 2021); ``focal``: cross-entropy that weighs easy samples less (Lin et al.
    2017)."""
    focal_gamma: NonNegative = 2.0
    """``focal``: exponent; 0 is ``ce``."""
    bce_threshold: Fraction | None = None
    """``bce``: a mixed target above this counts as 1, below as 0; targets stay soft where not given."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: a sample's loss weighs N / (K x samples of its class); K counts the classes that have
    training samples."""
    loss_weights: dict[str, NonNegative] = Field(default_factory=dict)
    """Weight of each head's loss by its name, where the data has several heads; 1 where not given."""
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    """``balanced``: an epoch draws each class equally often, with repetition where it has few samples."""
    smoothing: Fraction = 0.0
    """Label smoothing (Szegedy et al. 2016)."""
    clip_grad: Positive | None = None
    """Largest norm of the whole gradient."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """``auto`` takes the fastest that the device does well, and says which."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory format of images and weights."""
    ema_decay: Fraction | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """What several processes (torchrun) do with the network: a copy each (``ddp``, which ``auto`` takes), or
    a part each (``fsdp``), for networks that one GPU can't hold. docs/distributed.md."""
    sync_bn: bool = False
    """BatchNorm over the samples of all GPUs in training, instead of each GPU's own."""
    distributed_timeout_s: Positive = 600.0
    """How long processes wait for the slowest of them before they stop and name it."""
    early_stopping_epochs: Count | None = None
    """Stop after so many epochs without a better monitored figure."""
    monitor: str = "val/top1"
    """Figure that chooses the best epoch."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Whether more or less of it is better; ``auto`` knows."""
    checkpoint_every_epochs: Count | None = None
    """Keep a checkpoint of every n-th epoch, besides ``last`` and ``best``."""
    checkpoint_every_minutes: Positive | None = 10.0
    """Save ``last`` within an epoch at least so often."""
    histogram_every_epochs: Count | None = None
    """Every n-th epoch, write to TensorBoard what the layers do on 32 validation images: histograms of
    activations and gradients, dead units, norms. Changes nothing about the result."""

    @model_validator(mode="after")
    def _check_monitor(self) -> TrainSection:
        # Of several heads, val/<head>_top1; which heads there are is known with the data.
        if not any(re.fullmatch(rf"val/(\w+_)?{name[4:]}", self.monitor) for name in MONITORS):
            raise ValueError(f"monitor is {self.monitor!r}; choose one of {', '.join(MONITORS)}")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be below epochs ({self.epochs}). Train longer, "
                "or shorten it: --warmup-epochs 0 for none"
            )
        if self.bce_threshold is not None and self.loss != "bce":
            raise ValueError(f"bce_threshold is for loss bce; the loss is {self.loss}. Leave one of them out")
        return self

    @property
    def monitor_mode(self) -> Literal["max", "min"]:
        """``min`` for a loss, ``max`` for a score, unless told otherwise."""
        if self.mode != "auto":
            return self.mode
        return "min" if self.monitor.endswith("loss") else "max"


class FeaturesSection(Section):
    """Whether a frozen backbone's features are computed once instead of in every epoch."""

    views: Annotated[int, Field(ge=0, le=1000)] = 0
    """Augmented views of each training image that are cached; 0: no cache. Epoch e sees view e mod ``views``,
    drawn as epoch (e mod ``views``) would draw it: with as many views as epochs, or without augmentation,
    the result is that of training without a cache (with balanced sampling, an image that an epoch draws more
    than once is the same view each time). Needs a frozen backbone."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """How features are stored."""
    max_gib: Positive = 20.0
    """Largest size of the cache of all runs together; the longest unused entries go first."""


class TrackSection(Section):
    """Which experiment trackers follow the run, besides its own logs and TensorBoard; none by default."""

    trackers: tuple[Literal["wandb", "mlflow", "trackio"], ...] = ()
    """Weights & Biases, MLflow, Trackio; each is an extra of the package."""
    project: str = "praxiscope"
    """Project (MLflow: experiment) that the run is filed under."""
    run_name: str | None = None
    """Name that the run is shown by; the run's own where not given."""
    offline: bool = False
    """Keep everything on this machine until it is sent by hand (``wandb sync``)."""


class LoaderSection(Section):
    """How samples reach the model."""

    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Threads or processes that decode; 0 decodes in the training thread."""
    backend: Literal["auto", "thread", "process"] = "auto"
    """``auto``: threads on a CPU, processes beside a GPU."""
    prefetch: Count = 4
    """Batches that are made ahead."""
    timeout_s: Positive = 120.0
    """How long one batch may take before the files it waits for are named."""
    max_pixels: Count = 100_000_000
    """Images that declare more pixels are refused before they are decoded."""


class EvaluateSection(Section):
    """How the model is judged."""

    batch_size: Count | None = None
    """Samples of one forward pass; twice the training batch where not given."""
    img_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """Side of the evaluation crop in pixels, for networks without position embeddings; the training size
    where not given. Random crops enlarge what they show, so a CNN does better somewhat above the size that
    it was trained at (Touvron et al. 2019, "Fixing the train-test resolution discrepancy")."""
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of the resized short side that the centre crop keeps; the model's own where not given."""
    flip: bool = False
    """Average the logits of each image and its mirror image: two views, at twice the cost."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples behind each interval."""


class Recipe(Section):
    """Everything that was asked for; the resolved form is saved with the run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Names the run's folder."""
    description: str = ""
    """One line for ``praxiscope recipes``."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Every random draw follows from it."""
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    clip: ClipSection = ClipSection()
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    features: FeaturesSection = FeaturesSection()
    track: TrackSection = TrackSection()
    loader: LoaderSection = LoaderSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="after")
    def _check_repeats(self) -> Recipe:
        repeats, batch_size = self.augment.repeats, self.train.batch_size
        if repeats > batch_size:
            raise ValueError(
                f"augment.repeats ({repeats}) must not be above train.batch_size ({batch_size}): "
                "the draws of a sample stand in one batch"
            )
        return self
