"""From a configuration to the objects that are learnt, and from a step's number to its batch."""

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from common.data.collection import (
    CollectionFolders,
    ObjectEntry,
    choose_views,
    list_objects,
    read_input_images,
    read_views,
)
from common.data.hull import visual_hull_depth
from common.data.images import fit_to_square
from common.data.supervision import Draw, Supervision, draw_supervision
from common.data.views import Views
from common.errors import UserError
from common.scenes.scene import read_scene, scene_kind
from dvr.config import DataConfig, DVRConfig
from dvr.model import Batch, images_to_input

# Where a fresh clone finds data: the path that the paper's data set has, and the set made instead.
SHAPENET = Path("data/ShapeNet")
EMBEDDED = Path("data/furniture")


@dataclass(frozen=True)
class LearntObject:
    """An object's views and, where an encoder wants them, its input pictures."""

    views: Views
    inputs: UInt8[Tensor, "I s s 3"] | None

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self.views.images, self.views.masks, self.views.depth, self.views.hull_depth)
        return sum(a.nbytes for a in (*arrays, self.inputs) if a is not None)


class Objects:
    """The objects of one split, read when first used and kept up to a budget of memory."""

    def __init__(self, config: DVRConfig, split: str | None, held_out: bool = False) -> None:
        self.config, self.split = config, split
        self._held_out = held_out
        self._cache: OrderedDict[int, LearntObject] = OrderedDict()
        self.of_scene = scene_kind(Path(config.data.path)) != "collection"
        self.entries = (
            [_scene_entry(Path(config.data.path))]
            if self.of_scene
            else list_objects(Path(config.data.path), split, _optional_list(config.data.categories))
        )
        self._check_encoder()
        self.folders = collection_folders(config.data, self.entries[0])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> LearntObject:
        """The object, from memory or from disk."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        item = self._read(self.entries[index])
        self._check_patch(item.views)
        self._cache[index] = item
        while sum(kept.bytes for kept in self._cache.values()) > self.config.data.cache_gb * 2**30:
            if len(self._cache) == 1:
                break
            self._cache.popitem(last=False)
        return item

    def _check_encoder(self) -> None:
        data, kind = self.config.data, self.config.model.encoder.kind
        if self.of_scene and kind not in ("none", "embedding"):
            raise UserError(
                f"{data.path}: a scene is one object, without input pictures for the encoder "
                f"'{kind}'; set model.encoder.kind to none and model.code to 0, or data.path to a "
                "collection"
            )
        if kind == "embedding" and not self.of_scene:
            categories = _optional_list(data.categories)
            if self.entries != list_objects(Path(data.path), data.train_split, categories):
                raise UserError(
                    f"{data.path}: model.encoder.kind embedding has codes for the objects of "
                    f"data.train_split ({data.train_split}) alone; set data.val_split, "
                    "data.test_split and --split to the same, or choose an image encoder"
                )

    def _read(self, entry: ObjectEntry) -> LearntObject:
        data = self.config.data
        views = self._scene_views(entry.folder) if self.of_scene else self._object_views(entry)
        inputs = None
        if self.config.model.encoder.kind not in ("none", "embedding"):
            inputs = self._inputs(entry, views)
        if self.single:
            views = hold_out(views, data.holdout_every, self._held_out)
            if self._near_hull and views.hull_depth is None and not self._held_out:
                hull_depth = visual_hull_depth(views.masks, views.cameras)
                views = replace(views, hull_depth=hull_depth)
        return LearntObject(views, inputs)

    def _object_views(self, entry: ObjectEntry) -> Views:
        """All used views of an object of a collection."""
        data, has_hull = self.config.data, (entry.folder / self.folders.hull_depth).is_dir()
        points_at_depth = self.config.supervision.occupancy_points == "depth"
        return read_views(
            entry,
            self.folders,
            with_depth=bool(self.config.losses.depth) or points_at_depth,
            with_hull_depth=self._near_hull and has_hull,
            views=_optional_list(data.views),
            ignore_views=data.ignore_views,
            image_size=data.image_size,
        )

    def _scene_views(self, path: Path) -> Views:
        """All used views of a scene."""
        data = self.config.data
        views, _ = read_scene(path, frame="cube")
        if data.views is not None or data.ignore_views:
            wanted = _optional_list(data.views)
            views = views[choose_views(path, len(views), wanted, data.ignore_views)]
        return views if data.image_size is None else views.resized(data.image_size)

    def _check_patch(self, views: Views) -> None:
        patch, size = self.config.supervision.patch, views.masks.shape[1:]
        if patch > min(size):
            raise UserError(
                f"{self.config.data.path}: supervision.patch is {patch} but the pictures have "
                f"{size[1]} x {size[0]} pixels; set it to {min(size)} or less"
            )

    @property
    def _near_hull(self) -> bool:
        """Whether the depth of the masks' visual hull is asked for."""
        return self.config.supervision.occupancy_points == "hull" or self.config.losses.hull > 0

    def _inputs(self, entry: ObjectEntry, views: Views) -> UInt8[Tensor, "I s s 3"]:
        """The pictures an encoder may be given."""
        inputs, chosen = self._all_inputs(entry, views), self.config.data.input.views
        if chosen is None:
            return inputs
        if not all(0 <= view < len(inputs) for view in chosen):
            raise UserError(
                f"{entry.folder}: data.input.views is {list(chosen)} but there are {len(inputs)} "
                f"input pictures, 0 to {len(inputs) - 1}; choose of them"
            )
        return inputs[list(chosen)]

    def _all_inputs(self, entry: ObjectEntry, views: Views) -> UInt8[Tensor, "I s s 3"]:
        """All input pictures; those that are the supervision's are not decoded twice."""
        data = self.config.data
        whole = data.views is None and not data.ignore_views and data.image_size is None
        if not whole or self.folders.input != self.folders.image:
            return read_input_images(entry, self.folders, data.input.size)
        size = data.input.size
        if views.images.shape[1:3] == (size, size):
            return views.images
        fitted = [fit_to_square(image, size) for image in views.images.numpy()]
        return torch.from_numpy(np.stack(fitted))

    @property
    def single(self) -> bool:
        """Whether these are the views of one object, some of them held out from training."""
        alone = len(self.entries) == 1 and self.config.model.encoder.kind == "none"
        return self.of_scene or alone


def collection_folders(data: DataConfig, example: ObjectEntry) -> CollectionFolders:
    """The configured folder names; the input folder is ShapeNet's where the objects have it."""
    choy = "img_choy2016"
    folder = data.input.folder
    if folder is None:
        folder = choy if (example.folder / choy).is_dir() else data.folders.image
    names = data.folders
    return CollectionFolders(names.image, names.mask, names.depth, names.hull_depth, folder)


def hold_out(views: Views, every: int, held_out: bool) -> Views:
    """Every n-th view (the first among them), or the others; all of them where n is 0."""
    index = torch.arange(len(views.cameras))
    if every == 0:
        return views
    kept = index % every == 0
    if kept.all():
        raise UserError(
            f"data.holdout_every: {every} keeps all of the {len(index)} views from training; "
            "set it to 0 or to a larger number, or add views"
        )
    return views[index[kept if held_out else ~kept]]


def _scene_entry(path: Path) -> ObjectEntry:
    return ObjectEntry(
        category="scene", category_name="scene", name=path.resolve().name, folder=path
    )


def _optional_list(values: tuple | None) -> list | None:
    return None if values is None else list(values)


class StepBatches(Dataset):
    """batches[step]: a pure function of seed and step, whatever was asked before.

    Objects come in a new random order each epoch; of the global batch this process takes the
    slice of its rank.
    """

    def __init__(self, objects: Objects, config: DVRConfig, rank: int, processes: int) -> None:
        self.objects, self.config = objects, config
        self.rank, self.size = rank, config.training.objects // processes
        self.processes = processes
        supervision = config.supervision
        self.draw = Draw(
            rays=config.training.rays,
            views=supervision.views,
            patch=supervision.patch,
            hull_points=supervision.hull_points,
            sparse_points=supervision.sparse_points if config.losses.sparse_depth else 0,
        )

    def __len__(self) -> int:
        return self.config.training.iterations

    def __getitem__(self, step: int) -> Batch:
        """This process's share of the step's batch, on the CPU."""
        first = (step * self.processes + self.rank) * self.size
        items = [self._item(slot) for slot in range(first, first + self.size)]
        indices, images, drawn = zip(*items, strict=True)
        supervision = Supervision(
            **{
                name: torch.stack([getattr(one, name) for one in drawn])
                for name in Supervision.__dataclass_fields__
            }
        )
        image = None if images[0] is None else torch.stack(images)
        return Batch(image, torch.tensor(indices), supervision)

    def _item(self, slot: int) -> tuple[int, Tensor | None, Supervision]:
        epoch, place = divmod(slot, len(self.objects))
        seed = self.config.training.seed
        order = np.random.default_rng((seed, 0, epoch)).permutation(len(self.objects))
        index = int(order[place])
        numbers = np.random.default_rng((seed, 1, slot))
        generator = torch.Generator().manual_seed(int(numbers.integers(2**63)))
        item = self.objects[index]
        drawn = draw_supervision(item.views, self.draw, generator)
        image = None
        if item.inputs is not None:
            view = int(torch.randint(len(item.inputs), (), generator=generator))
            image = images_to_input(item.inputs[view : view + 1])[0]
        return index, *augment(image, drawn, self.config.data, generator)


def augment(
    image: Tensor | None, drawn: Supervision, data: DataConfig, generator: torch.Generator
) -> tuple[Tensor | None, Supervision]:
    """Random mirror image and hue, the same for what is seen and what is to be predicted."""
    if data.mirror == "x" and torch.rand((), generator=generator) < 0.5:
        drawn = drawn.mirrored()
        image = None if image is None else image.flip(-1)
    if data.colour_jitter:
        angle = (2 * torch.rand((), generator=generator) - 1) * torch.pi * data.colour_jitter
        turn = hue_rotation(angle)
        drawn = drawn.with_colour((drawn.colour @ turn.T).clamp(0, 1))
        image = None if image is None else torch.einsum("ij,jhw->ihw", turn, image).clamp(0, 1)
    if data.crop_jitter and image is not None:
        image = shift_and_zoom(image, data.crop_jitter, generator)
    return image, drawn


def hue_rotation(angle: Float[Tensor, ""]) -> Float[Tensor, "3 3"]:
    """Rotate RGB about the grey axis: grey and white stay, saturation is kept (Rodrigues)."""
    third = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return third + angle.cos() * (torch.eye(3) - third) + angle.sin() * cross


def shift_and_zoom(image: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Move and scale a picture by up to ``amount`` of its size; white comes in at the edges."""
    shift = (torch.rand(2, generator=generator) - 0.5) * amount
    zoom = 1 + (torch.rand((), generator=generator) - 0.5) * amount
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) * zoom
    matrix[:, 2] = shift
    grid = torch.nn.functional.affine_grid(matrix[None], [1, *image.shape], align_corners=False)
    darkness = torch.nn.functional.grid_sample(1 - image[None], grid, align_corners=False)
    return 1 - darkness[0]
