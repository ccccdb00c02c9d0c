"""Everything an IDR experiment can set, with its meaning and default."""

from typing import Literal

from pydantic import Field, model_validator

from common.config import Section, TrainingConfig


class DataConfig(Section):
    """What is learnt from."""

    path: str = Field(
        "data/sculpture", description="a scene folder; data/sculpture is made where absent"
    )
    image_size: int | None = Field(
        None, ge=8, description="resample the photographs to this shorter side; null: no"
    )
    views: tuple[int, ...] | None = Field(None, description="views used; null: all")
    ignore_views: tuple[int, ...] = Field((), description="view indices never used")
    holdout_every: int = Field(
        8, ge=0, description="every n-th view is kept from training; 0: none"
    )


class CamerasConfig(Section):
    """Where the cameras come from and whether they are learnt."""

    refine: bool = Field(False, description="learn a rotation and a translation of each camera")
    focal: bool = Field(False, description="also learn one factor of the focal lengths")
    file: str | None = Field(
        None, description="initial poses from this file of the scene, as cameras_linear_init.npz"
    )
    noise_deg: float = Field(0.0, ge=0, lt=90, description="turn each initial camera so far")
    noise_translation: float = Field(
        0.0, ge=0, lt=1, description="move each initial camera by this share of its distance"
    )
    rate: float = Field(1.0, gt=0, description="learning rate of the cameras, times the networks'")


class HashGridConfig(Section):
    """A small network on a multi-resolution hash grid."""

    levels: int = Field(8, ge=1, le=16, description="resolutions of the grid")
    features: int = Field(4, ge=1, le=8, description="learnt numbers per vertex and level")
    coarsest: int = Field(8, ge=2, description="cells along an axis at the coarsest level")
    finest: int = Field(256, ge=2, description="cells along an axis at the finest level")
    log2_rows: int = Field(16, ge=8, le=22, description="a level has at most 2^this rows")
    hidden: int = Field(64, ge=8, description="width of the network")
    layers: int = Field(2, ge=1, description="hidden layers of the network")
    start_levels: float = Field(3.0, ge=0, description="levels used at the start of training")
    rate: float = Field(5.0, gt=0, description="learning rate of the table, times the networks'")

    @model_validator(mode="after")
    def _levels_refine(self) -> "HashGridConfig":
        if self.finest < self.coarsest:
            raise ValueError(f"finest: {self.finest} is below coarsest: {self.coarsest}")
        return self


class MLPConfig(Section):
    """The paper's network on positional encoding."""

    hidden: int = Field(512, ge=48, description="width of the layers")
    layers: int = Field(8, ge=1, description="hidden layers")
    skip: int = Field(4, ge=0, description="layer that sees the encoding again; 0: none")
    frequencies: int = Field(6, ge=0, le=12, description="bands of the positional encoding")
    start_frequencies: float = Field(6.0, ge=0, description="bands used at the start of training")

    @model_validator(mode="after")
    def _encoding_fits(self) -> "MLPConfig":
        encoded = 3 + 6 * self.frequencies
        if 0 < self.skip < self.layers and self.hidden <= encoded:
            raise ValueError(
                f"hidden: {self.hidden} leaves no room for the {encoded} numbers of the encoding "
                "that join at the skip; raise it, or set skip: 0"
            )
        return self


class AppearanceConfig(Section):
    """The network that colours surface points."""

    hidden: int = Field(512, ge=8, description="width of the layers")
    layers: int = Field(4, ge=1, description="hidden layers")
    view: Literal["direct", "reflected", "none"] = Field(
        "direct",
        description="the view direction that colour sees; reflected: mirrored at the normal, "
        "which makes highlights easy",
    )
    normal: bool = Field(True, description="colour depends on the surface normal")
    unit_normal: bool = Field(
        True, description="false: the normal is the SDF's gradient, of any length, as in the paper"
    )
    feature: bool = Field(True, description="colour depends on the geometry feature")
    view_frequencies: int = Field(4, ge=0, le=12, description="bands that encode the direction")
    image_code: int = Field(0, ge=0, description="learnt numbers per photograph, for its light")
    weight_norm: bool = Field(True, description="weight normalisation of the layers")


class ModelConfig(Section):
    """Geometry and appearance."""

    geometry: Literal["hash_grid", "mlp"] = Field("mlp", description="which network is the SDF")
    hash_grid: HashGridConfig = HashGridConfig()
    mlp: MLPConfig = MLPConfig()
    feature: int = Field(256, ge=0, description="length of the geometry feature")
    initial_radius: float = Field(0.6, gt=0, lt=1, description="radius of the first sphere")
    appearance: AppearanceConfig = AppearanceConfig()
    fade_in: float = Field(
        0.3, ge=0, le=1, description="share of the run in which fine levels or bands come in"
    )

    @property
    def width(self) -> int:
        """Of the layers of the network that is the SDF."""
        return self.mlp.hidden if self.geometry == "mlp" else self.hash_grid.hidden


class SearchConfig(Section):
    """The search for the surface along a ray."""

    method: Literal["cached", "reference"] = Field(
        "cached", description="cached: on a grid of values, verified; reference: the paper's"
    )
    resolution: int = Field(64, ge=8, description="cells of the cached grid along an axis")
    evaluation_resolution: int = Field(128, ge=8, description="the same when evaluating")
    samples: int = Field(64, ge=8, description="looks at the cached grid along a ray")
    refresh_every: int = Field(
        50, ge=1, description="iterations between refreshes of the grid; a fifth of them at first"
    )


class LossConfig(Section):
    """Weight of each term of the loss; 0 leaves the term out."""

    rgb: float = Field(1.0, ge=0, description="L1 colour difference at the surface")
    mask: float = Field(100.0, ge=0, description="soft silhouette at the least SDF of a ray")
    outline: float = Field(
        1.0, ge=0, description="outlines cover as much of a pixel as masks with grey borders say"
    )
    eikonal: float = Field(0.1, ge=0, description="length of the gradient is one")
    smoothness: float = Field(0.0, ge=0, description="normals of neighbouring points agree")
    alpha: float = Field(50.0, gt=0, description="sharpness of the soft silhouette at the start")
    alpha_milestones: tuple[float, ...] = Field(
        (0.125, 0.25, 0.375, 0.5, 0.625),
        description="when alpha grows: iterations, or below 1 shares of the run",
    )
    alpha_factor: float = Field(2.0, ge=1, description="by which alpha grows")


class SupervisionConfig(Section):
    """Which pixels a step compares."""

    object_share: float = Field(
        0.5, gt=0, lt=1, description="share of the pixels drawn from inside the masks"
    )
    outline_share: float = Field(
        0.1, ge=0, lt=1, description="share of the pixels drawn from those that an outline crosses"
    )
    rim: int = Field(
        0, ge=0, description="colours of pixels so close to an outline are not compared"
    )
    neighbours: float = Field(
        0.25, ge=0, le=1, description="surface points with a neighbour, as a share of the rays"
    )
    neighbour_distance: float = Field(
        0.01, gt=0, description="how far such neighbours lie, in radii of the object's sphere"
    )
    eikonal_points: float = Field(
        0.25, ge=0, description="uniform points for the eikonal term, as a share of the rays"
    )


class IDRTraining(TrainingConfig):
    """How long, how fast and where to train."""

    out_dir: str = Field("out/idr", description="run folder: checkpoints, logs, meshes")
    rays: int = Field(2048, ge=16, description="pixels of a step, over all views")
    decay: Literal["steps", "cosine", "none"] = Field(
        "cosine",
        description="steps: times decay_factor at each milestone; cosine: to zero at the end",
    )
    # Held-out views are there to be scored: who chose by them would score the choice.
    select_by: Literal["mask_iou", "psnr"] | None = Field(
        None, description="validation metric that chooses best.pt; null: none, use the latest"
    )


class RenderingConfig(Section):
    """Pictures from a trained field."""

    samples: int = Field(
        1,
        ge=1,
        le=8,
        description="rays along each side of a pixel; above 1 outlines blend with white, as those "
        "of pictures with a white background do",
    )


class GenerationConfig(Section):
    """Meshes from a trained field."""

    resolution: int = Field(512, ge=16, description="cells on the short side of the object's box")
    faces: int | None = Field(None, ge=4, description="simplify to this many faces; null: keep all")
    largest: bool = Field(True, description="keep the largest connected piece alone")
    extension: Literal["ply", "obj", "glb", "off"] = Field("ply", description="mesh file format")


class IDRConfig(Section):
    """An Implicit Differentiable Renderer experiment."""

    method: Literal["idr"] = Field(description="which of the two methods to train")
    data: DataConfig = DataConfig()
    cameras: CamerasConfig = CamerasConfig()
    model: ModelConfig = ModelConfig()
    search: SearchConfig = SearchConfig()
    losses: LossConfig = LossConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    training: IDRTraining = IDRTraining()
    rendering: RenderingConfig = RenderingConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _terms_fit(self) -> "IDRConfig":
        losses = self.losses
        if not (losses.rgb or losses.mask):
            raise ValueError("losses.rgb and losses.mask are both 0: nothing to learn from")
        if self.cameras.focal and not self.cameras.refine:
            raise ValueError("cameras.focal needs cameras.refine: true")
        return self
