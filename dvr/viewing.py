"""Trained objects as the live viewer shows them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Rays
from common.data.images import thumbnail
from common.data.views import Views
from common.rendering.cached_search import Care, cache_field, search_cached
from common.rendering.intervals import cube_intervals
from common.rendering.memory import in_chunks
from common.training.run_folder import RunFolder
from common.viewing.run_view import LearntRun, Mode, Photographs, RunView, Thumbnail
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.model import DVRModel
from dvr.pictures import field_normals, object_condition

CELLS = 64  # of the grid of cached values, along an axis
LOOKS = 64  # at the grid along a ray
COARSE = 17  # vertices along an axis of the look at how steep the field is
CHUNK = 2**13
# In half sides of the cube: far below a pixel of a window.
CARE = Care(tolerance=5e-4)

Level = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]


def learnt_run(run: RunFolder, device: torch.device, checkpoint: str) -> LearntRun:
    """The test objects, or the one object of a scene; raises UserError as ``load_run`` does."""
    model, config, numbers = load_run(run, device, checkpoint)
    model.requires_grad_(False)
    # A scene's views all in one: which of them are held out is told apart later.
    data = config.data.model_copy(update={"holdout_every": 0})
    objects = Objects(config.model_copy(update={"data": data}), data.test_split, held_out=True)
    every = config.data.holdout_every if objects.single else 0

    def inputs(index: int) -> list[Thumbnail]:
        pictures = objects[index].inputs
        return [] if pictures is None else [thumbnail(picture.numpy()) for picture in pictures]

    def view(index: int, picture: int) -> RunView:
        condition = object_condition(model, objects, index, device, picture)
        return object_view(model, condition, _photographs(objects[index].views, every))

    names = tuple(f"{entry.category_name}/{entry.name}" for entry in objects.entries)
    return LearntRun(numbers["step"], names, inputs, view)


def object_view(
    model: DVRModel, condition: Float[Tensor, "blocks 1 hidden"], photographs: Photographs
) -> RunView:
    """An object as predicted, with the photographs to compare it with.

    A texture field's colour is the same from everywhere, so there is no mode "view direction"; and
    no "colour" for a run that learnt none.
    """

    def paint(
        points: Float[Tensor, "N 3"], to_camera: Float[Tensor, "N 3"], mode: Mode
    ) -> Float[Tensor, "N 3"]:
        if mode == "normal":
            return field_normals(model, condition, points)
        return model.decoder.colour(points, condition)

    modes: tuple[Mode, ...] = ("normal", "depth")
    return RunView(
        find=surface_finder(model.level(condition), condition.device),
        paint=paint,
        modes=("colour", *modes) if model.config.model.colour else modes,
        photographs=photographs,
        device=condition.device,
    )


@torch.no_grad()
def surface_finder(level: Level, device: torch.device) -> Callable[[Rays], Float[Tensor, "R"]]:
    """Distances along rays to where ``level`` first crosses zero in [-0.5, 0.5]^3.

    Infinite where it does not. A ray whose part in the cube begins inside ends there.
    """
    slope = _slope(level, device)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        # The shared search works on [-1, 1]^3 and on what is about a distance there.
        return level(points / 2) / slope

    cache, _ = cache_field(distance, CELLS, device, CHUNK)
    ray_level = in_chunks(lambda points, _: distance(points), CHUNK)

    def find(rays: Rays) -> Float[Tensor, "R"]:
        doubled = Rays(2 * rays.origin, rays.direction)
        intervals = cube_intervals(doubled, 1.0)
        hits = search_cached(ray_level, cache, doubled, intervals, LOOKS, care=CARE)
        depth = hits.depth.where(hits.found, torch.inf)
        return intervals.near.where(hits.starts_inside, depth) / 2

    return find


def _slope(level: Level, device: torch.device) -> float:
    """How much ``level`` typically changes along half the cube's side, where it crosses zero."""
    axis = torch.linspace(-0.5, 0.5, COARSE, device=device)
    values = level(torch.cartesian_prod(axis, axis, axis)).view(COARSE, COARSE, COARSE)
    crossing = []
    for dimension in range(3):
        step = values.diff(dim=dimension)
        crosses = (values > 0).diff(dim=dimension)
        crossing.append(step[crosses].abs())
    steps = torch.cat(crossing)
    if len(steps) == 0:  # nothing, or too small to tell
        steps = values.diff(dim=0).abs().max()
    return float(steps.median().clamp_min(1e-6)) * (COARSE - 1) / 2


def _photographs(views: Views, holdout_every: int) -> Photographs:
    count = len(views)
    held_out = [holdout_every > 0 and index % holdout_every == 0 for index in range(count)]
    return Photographs(
        names=tuple(f"view {index}" for index in range(count)),
        thumbnails=tuple(thumbnail(image.numpy()) for image in views.images),
        held_out=tuple(held_out),
        cameras=views.cameras,
    )
