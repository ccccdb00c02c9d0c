"""From a configuration to the objects that are learnt, and from a step's number to its batch."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
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
from common.data.collection_cache import (
    cached,
    fingerprint,
    views_from_arrays,
    views_to_arrays,
)
from common.data.hull import visual_hull_depth
from common.data.images import SUFFIXES, fit_to_square, read_image, read_input_image
from common.data.pairing import view_files
from common.data.supervision import (
    Draw,
    Drawn,
    draw_object,
    draw_views,
    supervision_of,
)
from common.data.views import Views
from common.errors import UserError
from common.scenes.scene import read_scene, scene_kind
from common.training.processes import Share
from dvr.augmentation import augment
from dvr.config import DataConfig, DVRConfig
from dvr.model import Batch, images_to_input

# Where a fresh clone finds data: the path that the paper's data set has, and the set made instead.
SHAPENET = Path("data/ShapeNet")
EMBEDDED = Path("data/furniture")

# What a mapped object counts as: 2 GB are 32,768 of them, and Linux maps 65,530 files at a time.
MAPPED_BYTES = 1 << 16


@dataclass(frozen=True)
class LearntObject:
    """An object's views and, where an encoder wants them, its input pictures."""

    views: Views
    inputs: UInt8[Tensor, "I s s 3"] | None
    mapped: bool = False  # the arrays are a file's pages, not this process's own memory

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        if self.mapped:
            return MAPPED_BYTES
        arrays = (self.views.images, self.views.masks, self.views.depth, self.views.hull_depth)
        return sum(a.nbytes for a in (*arrays, self.inputs) if a is not None)


class Objects:
    """The objects of one split, read when first used and kept up to a budget of memory.

    Who is kept stays: objects come in random order, and making room for the newest would throw out
    everyone before being asked for again. Only the newest gives way.
    """

    def __init__(self, config: DVRConfig, split: str | None, held_out: bool = False) -> None:
        self.config, self.split = config, split
        self._held_out = held_out
        self._cache: dict[int, LearntObject] = {}
        self._kept_bytes = 0
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
            return self._cache[index]
        item = self._read(self.entries[index])
        self._check_patch(item.views)
        while self._cache and self._kept_bytes + item.bytes > self._budget:
            self._kept_bytes -= self._cache.popitem()[1].bytes
        self._cache[index] = item
        self._kept_bytes += item.bytes
        return item

    def drawn(
        self, index: int, draw: Draw, generator: torch.Generator
    ) -> tuple[Drawn, UInt8[Tensor, "s s 3"] | None]:
        """What a step looks at of the object, and the picture of it that an encoder sees.

        Where memory has no room for the object, no other views are decoded, with the same result.
        """
        if index in self._cache or self._has_room or draw.hull_points:
            item = self[index]
            chosen = draw_views(len(item.views), draw, generator)
            drawn = draw_object(item.views, chosen, draw, generator)
            if item.inputs is None:
                return drawn, None
            return drawn, item.inputs[_one_of(len(item.inputs), generator)]
        entry = self.entries[index]
        views = self._chosen_views(entry)
        wanted = [views[place] for place in draw_views(len(views), draw, generator)]
        few = self._object_views(entry, wanted, check_place=False)
        self._check_patch(few)
        drawn = draw_object(few, torch.arange(len(few)), draw, generator)
        return drawn, self._one_input(entry, generator) if self._with_inputs else None

    def inputs(self, index: int) -> UInt8[Tensor, "I s s 3"] | None:
        """The object's input pictures alone, for who looks at nothing else of it."""
        if index in self._cache or not self._with_inputs:
            return self[index].inputs
        entry = self.entries[index]
        files = view_files(entry.folder / self.folders.input, SUFFIXES)
        chosen = self._chosen_inputs(entry, len(files))
        return torch.stack([self._input(files[number]) for number in chosen])

    @property
    def _budget(self) -> float:
        return self.config.data.cache_gb * 2**30

    @property
    def _has_room(self) -> bool:
        """Whether another object like the newest would fit into memory."""
        newest = next(reversed(self._cache.values()), None)
        return newest is None or self._kept_bytes + newest.bytes <= self._budget

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
        """The object, from its own files or decoded before."""
        data = self.config.data
        if data.cache_dir is None or self.single:
            return self._decode(entry)
        parts = (*vars(self.folders).values(), "cameras.npz", "pcl.npz")
        settings = (
            (data.folders, data.views, data.ignore_views, data.image_size, data.input),
            (self._with_depth, self._near_hull, self._with_inputs),
        )
        folder = fingerprint((Path(data.path).resolve(), settings), [])
        path = Path(data.cache_dir) / folder / entry.category / f"{entry.name}.views"
        sources = [entry.folder / part for part in parts]
        arrays = cached(
            path, fingerprint(settings, sources), lambda: _to_arrays(self._decode(entry))
        )
        views = views_from_arrays(arrays)
        if not self._with_inputs:
            return LearntObject(views, None, mapped=True)
        inputs = torch.from_numpy(arrays["inputs"]) if "inputs" in arrays else views.images
        return LearntObject(views, inputs, mapped=True)

    def _decode(self, entry: ObjectEntry) -> LearntObject:
        data = self.config.data
        views = self._scene_views(entry.folder) if self.of_scene else self._object_views(entry)
        inputs = self._inputs(entry, views) if self._with_inputs else None
        if self.single:
            views = hold_out(views, data.holdout_every, self._held_out)
            if self._near_hull and views.hull_depth is None and not self._held_out:
                hull_depth = visual_hull_depth(views.masks, views.cameras)
                views = replace(views, hull_depth=hull_depth)
        return LearntObject(views, inputs)

    def _object_views(
        self, entry: ObjectEntry, views: list[int] | None = None, check_place: bool = True
    ) -> Views:
        """These views (None: all used ones) of an object of a collection."""
        data = self.config.data
        return read_views(
            entry,
            self.folders,
            with_depth=self._with_depth,
            with_hull_depth=self._near_hull and (entry.folder / self.folders.hull_depth).is_dir(),
            views=_optional_list(data.views) if views is None else views,
            ignore_views=data.ignore_views,
            image_size=data.image_size,
            check_place=check_place,
        )

    def _chosen_views(self, entry: ObjectEntry) -> list[int]:
        """The used views of an object of a collection."""
        data, files = self.config.data, view_files(entry.folder / self.folders.image, SUFFIXES)
        return choose_views(entry.folder, len(files), _optional_list(data.views), data.ignore_views)

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
    def _with_inputs(self) -> bool:
        """Whether an encoder is to see pictures."""
        return self.config.model.encoder.kind not in ("none", "embedding")

    @property
    def _with_depth(self) -> bool:
        """Whether depth maps are asked for."""
        points_at_depth = self.config.supervision.occupancy_points == "depth"
        return bool(self.config.losses.depth) or points_at_depth

    @property
    def _near_hull(self) -> bool:
        """Whether the depth of the masks' visual hull is asked for."""
        return self.config.supervision.occupancy_points == "hull" or self.config.losses.hull > 0

    def _inputs(self, entry: ObjectEntry, views: Views) -> UInt8[Tensor, "I s s 3"]:
        """The pictures an encoder may be given."""
        inputs = self._all_inputs(entry, views)
        chosen = self._chosen_inputs(entry, len(inputs))
        return inputs if self.config.data.input.views is None else inputs[chosen]

    def _chosen_inputs(self, entry: ObjectEntry, count: int) -> list[int]:
        """Which of the input pictures an encoder may be given."""
        chosen = self.config.data.input.views
        if chosen is None:
            return list(range(count))
        if not all(0 <= view < count for view in chosen):
            raise UserError(
                f"{entry.folder}: data.input.views is {list(chosen)} but there are {count} "
                f"input pictures, 0 to {count - 1}; choose of them"
            )
        return list(chosen)

    def _one_input(self, entry: ObjectEntry, generator: torch.Generator) -> UInt8[Tensor, "s s 3"]:
        """A random one of the pictures, the only one that is decoded."""
        files = view_files(entry.folder / self.folders.input, SUFFIXES)
        chosen = self._chosen_inputs(entry, len(files))
        return self._input(files[chosen[_one_of(len(chosen), generator)]])

    def _input(self, file: Path) -> UInt8[Tensor, "s s 3"]:
        """One picture as the encoder takes it."""
        size = self.config.data.input.size
        if self._inputs_are_views:
            return torch.from_numpy(fit_to_square(read_image(file), size))
        return torch.from_numpy(read_input_image(file, size))

    @property
    def _inputs_are_views(self) -> bool:
        """Whether the input pictures are the supervision's, all of them as they are."""
        data = self.config.data
        whole = data.views is None and not data.ignore_views and data.image_size is None
        return whole and self.folders.input == self.folders.image

    def _all_inputs(self, entry: ObjectEntry, views: Views) -> UInt8[Tensor, "I s s 3"]:
        """All input pictures; those that are the supervision's are not decoded twice."""
        size = self.config.data.input.size
        if not self._inputs_are_views:
            return read_input_images(entry, self.folders, size)
        if views.images.shape[1:3] == (size, size):
            return views.images
        fitted = [fit_to_square(image, size) for image in views.images.numpy()]
        return torch.from_numpy(np.stack(fitted))

    @property
    def single(self) -> bool:
        """Whether these are the views of one object, some of them held out from training."""
        alone = len(self.entries) == 1 and self.config.model.encoder.kind == "none"
        return self.of_scene or alone


def _one_of(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _to_arrays(item: LearntObject) -> dict[str, np.ndarray]:
    """What is stored of an object; inputs that are the views' pictures are these."""
    arrays = views_to_arrays(item.views)
    if item.inputs is not None and item.inputs is not item.views.images:
        arrays["inputs"] = item.inputs.numpy()
    return arrays


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

    Objects come in a new random order each epoch; of a step's objects this process takes its share.
    """

    def __init__(self, objects: Objects, config: DVRConfig, rank: int, processes: int) -> None:
        self.objects, self.config, self.share = objects, config, Share(rank, processes)
        self.share.size(config.training.objects, "training.objects")
        supervision = config.supervision
        self.draw = Draw(
            rays=config.training.rays,
            views=supervision.views,
            object_share=supervision.object_share,
            patch=supervision.patch,
            hull_points=supervision.hull_points,
            sparse_points=supervision.sparse_points if config.losses.sparse_depth else 0,
        )

    def __len__(self) -> int:
        return self.config.training.iterations

    def __getitem__(self, step: int) -> Batch:
        """This process's share of the step's batch, on the CPU."""
        slots = torch.arange(self.config.training.objects) + step * self.config.training.objects
        own = self.share.of(slots).tolist()
        indices, generators = zip(*(self._choice(slot) for slot in own), strict=True)
        drawn, pictures = zip(
            *(
                self.objects.drawn(index, self.draw, generator)
                for index, generator in zip(indices, generators, strict=True)
            ),
            strict=True,
        )
        images = None if pictures[0] is None else images_to_input(torch.stack(pictures))
        seen, supervision = augment(images, supervision_of(drawn), self.config.data, generators)
        return Batch(seen, torch.tensor(indices), supervision)

    def _choice(self, slot: int) -> tuple[int, torch.Generator]:
        """The object in this place of the training, and what draws the rest."""
        epoch, place = divmod(slot, len(self.objects))
        seed = self.config.training.seed
        index = int(_order(seed, epoch, len(self.objects))[place])
        numbers = np.random.default_rng((seed, 1, slot))
        return index, torch.Generator().manual_seed(int(numbers.integers(2**63)))


@lru_cache(maxsize=2)  # a batch may have the end of one epoch and the beginning of the next
def _order(seed: int, epoch: int, count: int) -> Int[np.ndarray, "count"]:
    """The objects in an epoch's order."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)
