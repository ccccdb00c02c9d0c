"""Everything a DVR experiment can set, with its meaning and default."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Section, TrainingConfig


class InputConfig(Section):
    """The picture that the encoder sees."""

    folder: str | None = Field(
        None, description="folder of input pictures; null: img_choy2016 where it exists, else image"
    )
    size: int = Field(
        64, ge=8, le=1024, description="side of the square the picture is fitted into"
    )
    views: tuple[int, ...] | None = Field(
        None, description="indices of the pictures that may be drawn as input; null: all"
    )


class FoldersConfig(Section):
    """Names of the folders inside an object's folder."""

    image: str = Field("image", description="supervision pictures")
    mask: str = Field("mask", description="object masks")
    depth: str = Field("depth", description="depth maps (EXR, camera z)")
    hull_depth: str = Field("visual_hull_depth", description="depth maps of the visual hull (EXR)")


class DataConfig(Section):
    """What is learnt from."""

    path: str = Field(
        "data/ShapeNet", description="a collection or a scene; data/ShapeNet: else the embedded set"
    )
    categories: tuple[str, ...] | None = Field(None, description="categories to use; null: all")
    train_split: str | None = Field(
        "train", description="<category>/<split>.lst; null: all objects"
    )
    val_split: str | None = Field("val", description="objects that select the best checkpoint")
    test_split: str | None = Field("test", description="objects that are scored at the end")
    folders: FoldersConfig = FoldersConfig()
    input: InputConfig = InputConfig()
    image_size: int | None = Field(
        None, ge=8, description="resample supervision (image, mask, depth) to this height; null: no"
    )
    views: tuple[int, ...] | None = Field(None, description="supervision views used; null: all")
    ignore_views: tuple[int, ...] = Field((), description="view indices never used")
    holdout_every: int = Field(
        8, ge=0, description="scenes: every n-th view is kept from training; 0: none"
    )
    mirror: Literal["x", "none"] = Field(
        "none", description="x: also train on mirror images (objects alike under x -> -x)"
    )
    colour_jitter: float = Field(
        0.0, ge=0, le=1, description="random hue rotation of input and target together; 0: none"
    )
    crop_jitter: float = Field(
        0.0, ge=0, le=0.5, description="random shift and zoom of the input picture; 0: none"
    )
    cache_gb: float = Field(2.0, ge=0, description="memory for decoded objects, of each process")
    cache_dir: str | None = Field(
        None, description="folder on a fast local disk for a collection's decoded objects; null: no"
    )
    workers: int = Field(0, ge=0, description="processes that load batches; 0: the training one")


class EncoderConfig(Section):
    """How an object's latent code is found."""

    kind: Literal[
        "none",
        "embedding",
        "simple",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "efficientnet_lite0",
    ] = Field("resnet18", description="image network; embedding: one free code per object; none")
    width: int = Field(64, ge=4, description="channels of a ResNet's first stage (64: the paper's)")
    weights: str | None = Field(None, description="torchvision .pth of ImageNet weights, or null")
    norm_groups: int = Field(
        1, ge=1, description="groups of a step's pictures, each with its own batch normalisation"
    )


class ModelConfig(Section):
    """The occupancy network and texture field."""

    hidden: int = Field(512, ge=4, description="width of the residual blocks")
    blocks: int = Field(5, ge=1, description="number of residual blocks")
    code: int = Field(256, ge=0, description="length of the latent code; 0 without an encoder")
    colour: bool = Field(True, description="learn a texture field")
    frequencies: int = Field(0, ge=0, le=12, description="positional encoding; 0: plain points")
    initial_radius: float = Field(0.3, gt=0, lt=0.5, description="radius of the first field's ball")
    initial_slope: float = Field(
        10.0, gt=0, description="logits per unit length of the first field"
    )
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _code_fits_encoder(self) -> "ModelConfig":
        if (self.encoder.kind == "none") != (self.code == 0):
            raise ValueError("encoder.kind none goes with code: 0, and any other with a code")
        if self.encoder.weights and not self.encoder.kind.startswith("resnet"):
            raise ValueError("encoder.weights are for a resnet")
        return self


class MarchConfig(Section):
    """The search for the surface along a ray."""

    samples: tuple[tuple[int, int], ...] = Field(
        ((0, 16), (50_000, 32), (100_000, 64), (250_000, 128)),
        description="[from iteration, samples per ray] while training",
    )
    evaluation_samples: int = Field(128, ge=2, description="samples per ray when evaluating")
    method: Literal["adaptive", "dense"] = Field(
        "adaptive", description="dense: evaluate every sample and step, as the paper does"
    )
    refinement: Literal["secant", "bisection"] = Field("secant", description="root refinement")
    refinement_steps: int = Field(8, ge=1, description="most evaluations of the refinement")
    refinement_tolerance: float = Field(
        1e-3, ge=0, description="logits so near to the surface's are refined no further"
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="occupancy at the surface (tau)")
    memory_gb: float | None = Field(
        None, gt=0, description="memory of one chunk of evaluations; null: a share of what is free"
    )

    @model_validator(mode="after")
    def _schedule_increases(self) -> "MarchConfig":
        starts = [start for start, _ in self.samples]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("samples must start at iteration 0 and have increasing iterations")
        if min(count for _, count in self.samples) < 2:
            raise ValueError("samples must be at least 2 per ray")
        return self


class LossConfig(Section):
    """Weight of each term of the loss; 0 leaves the term out."""

    rgb: float = Field(1.0, ge=0, description="L1 colour difference at the surface")
    image_gradient: float = Field(0.0, ge=0, description="difference of image gradients (patches)")
    depth: float = Field(0.0, ge=0, description="difference to the depth maps")
    sparse_depth: float = Field(0.0, ge=0, description="difference to sparse points (pcl.npz)")
    normal: float = Field(0.05, ge=0, description="difference of normals of neighbouring points")
    freespace: float = Field(1.0, ge=0, description="background rays must be empty")
    occupancy: float = Field(1.0, ge=0, description="object rays must meet matter")
    hull: float = Field(0.0, ge=0, description="random points against the masks' visual hull")


class SupervisionConfig(Section):
    """Which pixels and points a step compares."""

    views: int = Field(1, ge=1, description="views that an object's rays are drawn from in a step")
    object_share: float = Field(
        0.0, ge=0, le=1, description="of an object's pixels drawn, those that show it; rest: any"
    )
    patch: int = Field(1, ge=1, le=16, description="pixels are drawn in patch x patch squares")
    occupancy_points: Literal["hull", "depth", "random", "random_normal"] = Field(
        "random", description="where an object ray without surface is told to be occupied"
    )
    depth_distance: Literal["camera_z", "points"] = Field(
        "camera_z", description="depth terms compare camera z (L1) or points (L2)"
    )
    always_freespace: bool = Field(
        True, description="false: only background rays that are not predicted as the object's"
    )
    hull_points: int = Field(0, ge=0, description="random points per object for the hull term")
    sparse_points: int = Field(512, ge=1, description="sparse points per object and step")


class DVRTraining(TrainingConfig):
    """How long, how fast and where to train."""

    objects: int = Field(16, ge=1, description="objects in a batch, over all processes")
    select_by: Literal["mask_iou", "depth_error"] | None = Field(
        "mask_iou", description="validation metric that chooses best.pt; null: none is kept"
    )


class GenerationConfig(Section):
    """Meshes, volumes and pictures from a trained field."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="occupancy at the surface; null: march.threshold"
    )
    resolution: int = Field(256, ge=8, description="cells on the side of the finest grid")
    coarse_resolution: int = Field(32, ge=4, description="cells on the side of the first grid")
    refinement_steps: int = Field(2, ge=0, description="rounds of mesh refinement; 0: none")
    faces: int | None = Field(None, ge=4, description="simplify to this many faces; null: keep all")
    extension: Literal["ply", "obj", "glb", "off"] = Field("ply", description="mesh file format")

    @model_validator(mode="after")
    def _grids_are_nested(self) -> "GenerationConfig":
        ratio, rest = divmod(self.resolution, min(self.coarse_resolution, self.resolution))
        if rest or ratio & (ratio - 1):
            raise ValueError(
                f"resolution {self.resolution} must be coarse_resolution "
                f"({self.coarse_resolution}) times a power of two"
            )
        return self


class DVRConfig(Section):
    """A Differentiable Volumetric Rendering experiment."""

    method: Literal["dvr"] = Field(description="which of the two methods to train")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    march: MarchConfig = MarchConfig()
    losses: LossConfig = LossConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    training: DVRTraining = DVRTraining()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _terms_fit(self) -> "DVRConfig":
        losses, supervision = self.losses, self.supervision
        if not any(losses.model_dump().values()):
            raise ValueError("every loss has weight 0; give at least one term a weight")
        if self.model.encoder.kind == "simple" and self.data.input.size < 63:
            raise ValueError(
                "model.encoder.kind simple needs data.input.size of at least 63 pixels"
            )
        if losses.rgb and not self.model.colour:
            raise ValueError("losses.rgb needs model.colour: true")
        if losses.image_gradient and not (supervision.patch > 1 and self.model.colour):
            raise ValueError("losses.image_gradient needs supervision.patch >= 2 and model.colour")
        if bool(losses.hull) != bool(supervision.hull_points):
            raise ValueError("losses.hull and supervision.hull_points go together")
        if self.training.objects % self.model.encoder.norm_groups:
            raise ValueError(
                "training.objects must be a multiple of model.encoder.norm_groups: "
                f"got {self.training.objects} and {self.model.encoder.norm_groups}"
            )
        if self.training.rays % supervision.patch**2:
            raise ValueError("training.rays must be a multiple of supervision.patch squared")
        return self
