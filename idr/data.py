"""The photographs of one scene, and from a step's number the pixels it compares."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from common.cameras import Cameras
from common.data.collection import choose_views
from common.data.views import Views
from common.errors import UserError
from common.rendering.intervals import sphere_intervals
from common.scenes.scene import read_initial_cameras, read_scene
from common.training.processes import Share
from idr.camera_refinement import perturb_cameras
from idr.config import IDRConfig


@dataclass(frozen=True)
class Scene:
    """Photographs of one object in the unit sphere: those learnt from and those held out.

    ``held_out`` is empty where nothing is held out. ``rough_cameras`` are the training views' poses
    that a run starts from: their own, another file's, or noisy ones. Names are the image files'.
    """

    training: Views
    held_out: Views
    rough_cameras: Cameras
    training_names: list[str]
    held_out_names: list[str]


def load_scene(config: IDRConfig) -> Scene:
    """Read the configured scene, split its views, and make its cameras as rough as asked."""
    data, path = config.data, Path(config.data.path)
    views, names = read_scene(path, frame="sphere")
    file = config.cameras.file
    rough = views.cameras if file is None else read_initial_cameras(path, file, views)
    wanted = None if data.views is None else list(data.views)
    chosen = choose_views(path, len(views), wanted, data.ignore_views)
    views, rough, names = views[chosen], rough[chosen], [names[index] for index in chosen]
    if data.image_size is not None:
        views = views.resized(data.image_size)
        rough = rough.resized(*views.masks.shape[1:])
    every, index = data.holdout_every, torch.arange(len(views))
    held = index % every == 0 if every else torch.zeros_like(index, dtype=torch.bool)
    if held.all():
        raise UserError(
            f"data.holdout_every: {every} keeps all of the {len(index)} views from training; "
            "set it to 0 or to a larger number, or add views"
        )
    learnt, kept = index[~held], index[held]
    return Scene(
        training=views[learnt],
        held_out=views[kept],
        rough_cameras=_with_noise(rough[learnt], config),
        training_names=[names[i] for i in learnt.tolist()],
        held_out_names=[names[i] for i in kept.tolist()],
    )


def _with_noise(cameras: Cameras, config: IDRConfig) -> Cameras:
    settings = config.cameras
    if not (settings.noise_deg or settings.noise_translation):
        return cameras
    generator = torch.Generator().manual_seed(config.training.seed)
    return perturb_cameras(cameras, settings.noise_deg, settings.noise_translation, generator)


@dataclass(frozen=True)
class PixelBatch:
    """Pixels of all views together: place, colour, and whether they show the object.

    ``coloured`` ones show nothing but the object: outlines blend with the background.
    ``coverage`` is how much of each is object, where masks tell: outlines cross those in between.
    """

    view: Int[Tensor, "R"]
    pixel: Float[Tensor, "R 2"]
    colour: Float[Tensor, "R 3"]
    mask: Bool[Tensor, "R"]
    coloured: Bool[Tensor, "R"]
    coverage: Float[Tensor, "R"] | None = None

    def to(self, device: torch.device) -> "PixelBatch":
        """The same pixels on another device."""
        moved = {
            name: part.to(device, non_blocking=True)
            for name, part in vars(self).items()
            if part is not None
        }
        return replace(self, **moved)


class PixelBatches(Dataset):
    """batches[step]: a pure function of seed and step; of its pixels this process's share.

    ``object_share`` of all show the object; ``outline_share`` have an outline across them, where
    the masks tell so finely; the others are background whose rays meet the sphere that may contain
    the object (rays that cannot meet it teach nothing).
    """

    def __init__(self, views: Views, config: IDRConfig, rank: int, processes: int) -> None:
        self.views, self.config, self.share = views, config, Share(rank, processes)
        check_shares(config, self.share)
        self.inner = inner_masks(views.masks, config.supervision.rim)
        self.on_object = views.masks.reshape(-1).nonzero()[:, 0].to(torch.int32)
        self.background = _background(views.masks, views.cameras)
        self.outline = _outline(views)

    def __len__(self) -> int:
        return self.config.training.iterations

    def __getitem__(self, step: int) -> PixelBatch:
        """The pixels of a step, on the CPU."""
        rays, shares = self.config.training.rays, self.config.supervision
        numbers = np.random.default_rng((self.config.training.seed, step))
        generator = torch.Generator().manual_seed(int(numbers.integers(2**63)))
        outlines = round(rays * shares.outline_share) if len(self.outline) else 0
        objects = round((rays - outlines) * shares.object_share)
        if len(self.background) == 0:
            objects = rays - outlines
        pools = (
            (self.on_object, objects),
            (self.outline, outlines),
            (self.background, rays - objects - outlines),
        )
        drawn = [
            pool[torch.randint(len(pool), (count,), generator=generator)].long()
            for pool, count in pools
            if count
        ]
        return pixels_at(self.views, self.inner, self.share.of(torch.cat(drawn)))


def check_shares(config: IDRConfig, share: Share) -> None:
    """UserError where what a step draws cannot be shared equally by the processes."""
    rays, supervision = config.training.rays, config.supervision
    share.size(rays, "training.rays")
    share.size(round(rays * supervision.eikonal_points), "supervision.eikonal_points x rays")
    if config.losses.smoothness:
        share.size(round(rays * supervision.neighbours), "supervision.neighbours x rays")


def pixels_at(views: Views, inner: Bool[Tensor, "V H W"], flat: Int[Tensor, "R"]) -> PixelBatch:
    """The pixels at flat indices into (view, row, column); colours count in the ``inner`` ones."""
    height, width = views.masks.shape[1:]
    x, y = flat % width, flat // width % height
    view = flat // (height * width)
    mask = views.masks[view, y, x]
    return PixelBatch(
        view,
        torch.stack([x, y], dim=-1).float(),
        views.images[view, y, x].float() / 255,
        mask,
        inner[view, y, x],
        None if views.coverage is None else views.coverage[view, y, x].float() / 255,
    )


def inner_masks(masks: Bool[Tensor, "V H W"], rim: int) -> Bool[Tensor, "V H W"]:
    """The masks without the pixels within ``rim`` of their outlines."""
    if rim == 0:
        return masks
    grown = [
        torch.nn.functional.max_pool2d((~mask)[None].float(), 2 * rim + 1, 1, rim)[0] > 0
        for mask in masks
    ]
    return masks & ~torch.stack(grown)


def _outline(views: Views) -> Int[Tensor, "E"]:
    """Flat indices of the pixels that masks call object in part."""
    if views.coverage is None:
        return torch.empty(0, dtype=torch.int32)
    part = (views.coverage > 0) & (views.coverage < 255)
    return part.reshape(-1).nonzero()[:, 0].to(torch.int32)


def _background(masks: Bool[Tensor, "V H W"], cameras: Cameras) -> Int[Tensor, "B"]:
    """Flat indices of the pixels without object whose rays cross the unit sphere."""
    height, width = masks.shape[1:]
    found = []
    for view in range(len(masks)):
        y, x = (~masks[view]).nonzero(as_tuple=True)
        rays = cameras.rays(torch.full_like(x, view), torch.stack([x, y], dim=-1).float())
        crosses = sphere_intervals(rays).crosses
        found.append(((view * height + y) * width + x)[crosses].to(torch.int32))
    return torch.cat(found)
