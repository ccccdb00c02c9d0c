"""Scores of a trained model: volumes, meshes and pictures, beside trivial baselines."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.collection import ObjectEntry, read_surface_points
from common.errors import UserError
from common.meshes.draw import draw_textured
from common.meshes.files import load_mesh, load_textured
from common.meshes.find import find_mesh, find_textured
from common.meshes.mesh import Mesh, transform_mesh
from common.meshes.metrics import (
    compare_points,
    compare_to_points,
    failed_metrics,
    sample_mesh,
    volumetric_iou,
)
from common.rendering.picture import Picture
from common.rendering.view_scores import PICTURE_SCORES, view_scores
from dvr.baselines import mean_shape, nearest_objects, read_volume
from dvr.data import LearntObject, Objects
from dvr.model import DVRModel
from dvr.pictures import object_condition, render_view

Scores = dict[str, float]
TEXTURED = "textured_"  # before the names of a textured mesh's scores in an item


def evaluate_run(
    model: DVRModel,
    objects: Objects,
    training: Objects | None,
    meshes: Path,
    numbers: dict,
    views_each: int,
    seed: int,
    progress: Callable[[], None],
) -> dict:
    """The content of evaluation.json; with ``training`` objects, beside baselines that know them.

    See ``evaluate_objects``, which calls ``progress``.
    """
    config, device = objects.config, next(model.parameters()).device
    items = evaluate_objects(
        model, objects, meshes, config.generation.extension, device, views_each, seed, progress
    )
    means = mean_scores(items)
    held_out = {name: means[name] for name in PICTURE_SCORES if name in means}
    textured = {
        name: means.pop(f"{TEXTURED}{name}")
        for name in PICTURE_SCORES
        if f"{TEXTURED}{name}" in means
    }
    seen = training_view_scores(model, objects, device, views_each)
    if seen and not config.data.holdout_every:
        held_out, textured = {}, {}  # every view was trained on
    return {
        "method": config.method,
        "step": numbers["step"],
        "seconds": numbers["seconds"],
        "held_out": held_out,
        "training": seen,
        "textured": textured,
        "mesh": {name: value for name, value in means.items() if name not in PICTURE_SCORES},
        "categories": scores_by_category(items),
        "baselines": {} if training is None else baseline_scores(objects, training, seed),
        "items": items,
    }


def evaluate_objects(
    model: DVRModel,
    objects: Objects,
    meshes: Path,
    extension: str,
    device: torch.device,
    views_each: int,
    seed: int,
    progress: Callable[[], None],
) -> list[dict]:
    """Scores of every object, each reconstructed from its first input picture.

    Geometry is compared where the collection has the truth (points.npz, pointcloud.npz); a mesh
    that is missing or empty counts as a failure. Pictures are compared at ``views_each`` views
    spread over those of the object.
    """
    items = []
    for index, entry in enumerate(objects.entries):
        item: dict[str, Any] = {"name": entry.name, "category": entry.category_name}
        condition = object_condition(model, objects, index, device)
        if (volume := read_volume(entry)) is not None:
            with torch.no_grad():
                points = torch.from_numpy(volume.points).to(device)
                inside = torch.cat([model.level(condition)(p) < 0 for p in points.split(65536)])
            item["volumetric_iou"] = volumetric_iou(inside.cpu().numpy(), volume.inside)
        if (surface := read_surface_points(entry)) is not None:
            path = meshes / entry.category / f"{entry.name}.{extension}"
            mesh, problem = _mesh_in_object_frame(path, objects[index])
            item |= {"mesh_problem": problem} if problem else {}
            item |= compare_to_points(mesh, *surface, seed=seed) if mesh else failed_metrics()
        drawn = partial(render_view, model, condition, objects[index].views.cameras)
        item |= picture_scores(drawn, objects[index], views_each)
        path = meshes / entry.category / f"{entry.name}.{extension}"
        for name, score in textured_scores(path, objects[index], views_each).items():
            item[f"{TEXTURED}{name}"] = score
        items.append(item)
        progress()
    return items


def _mesh_in_object_frame(path: Path, item: LearntObject) -> tuple[Mesh | None, str | None]:
    try:
        mesh = load_mesh(find_mesh(path))
    except UserError as error:
        return None, str(error)
    object_from_world = np.linalg.inv(item.views.world_from_object.double().numpy())
    return transform_mesh(mesh, object_from_world), None


def picture_scores(drawn: Callable[[int], Picture], item: LearntObject, views_each: int) -> Scores:
    """The mean ``view_scores`` of some drawn views, spread evenly, where they show the object."""
    count = len(item.views)
    chosen = np.linspace(0, count - 1, min(views_each, count)).round().astype(int)
    rows = []
    for view in chosen:
        if not item.views.masks[view].any():
            continue  # nothing of the object to compare there
        rows.append(view_scores(drawn(int(view)), item.views.images[view], item.views.masks[view]))
    columns = {name: [row[name] for row in rows if name in row] for name in PICTURE_SCORES}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


def training_view_scores(
    model: DVRModel, objects: Objects, device: torch.device, views_each: int
) -> Scores:
    """Picture scores at the views that a single object was learnt from; none for a collection."""
    if not objects.single:
        return {}
    seen = Objects(objects.config, objects.split)
    condition = object_condition(model, seen, 0, device)
    drawn = partial(render_view, model, condition, seen[0].views.cameras)
    return picture_scores(drawn, seen[0], views_each)


def textured_scores(path: Path, item: LearntObject, views_each: int) -> Scores:
    """Those of the newest textured mesh called like ``path``, as drawn; none without one."""
    asset = find_textured(path)
    if asset is None:
        return {}
    textured = load_textured(asset)
    object_from_world = np.linalg.inv(item.views.world_from_object.double().numpy())
    moved = replace(textured, mesh=transform_mesh(textured.mesh, object_from_world))
    return picture_scores(partial(draw_textured, moved, item.views.cameras), item, views_each)


def baseline_scores(objects: Objects, training: Objects, seed: int) -> dict[str, Scores]:
    """Retrieval by silhouette and by colour, and the mean shape, on the same inputs and truth."""
    pictures = [objects.inputs(i) for i in range(len(objects))]
    if any(inputs is None for inputs in pictures):
        return {}
    queries = torch.stack([inputs[0] for inputs in pictures]).float() / 255  # type: ignore[index]
    scores = {
        name: mean_scores(
            [
                _compare_objects(entry, training.entries[k])
                for entry, k in zip(objects.entries, found, strict=True)
            ]
        )
        for name, found in nearest_objects(queries, training).items()
    }
    mean = mean_shape(training.entries)
    sampled = sample_mesh(mean.mesh(), seed=seed)
    rows = []
    for entry in objects.entries:
        row = {}
        if (volume := read_volume(entry)) is not None:
            row["volumetric_iou"] = volumetric_iou(mean.at(volume.points), volume.inside)
        if (surface := read_surface_points(entry)) is not None:
            row |= compare_points(*sampled, *surface) if sampled else failed_metrics()
        rows.append(row)
    return scores | {"mean_shape": mean_scores(rows)}


def _compare_objects(entry: ObjectEntry, other: ObjectEntry) -> Scores:
    """Scores of another object's truth taken as the reconstruction."""
    scores: Scores = {}
    volume, guess = read_volume(entry), read_volume(other)
    if volume is not None and guess is not None:
        scores["volumetric_iou"] = volumetric_iou(guess.at(volume.points), volume.inside)
    surface, taken = read_surface_points(entry), read_surface_points(other)
    if surface is not None and taken is not None:
        scores |= compare_points(*taken, *surface)
    return scores


def mean_scores(items: list[dict]) -> Scores:
    """The mean of every number, over the items that have it (failed meshes have the worst)."""
    names = dict.fromkeys(k for item in items for k, v in item.items() if isinstance(v, float))
    return {
        name: float(np.nanmean([item[name] for item in items if name in item])) for name in names
    }


def scores_by_category(items: list[dict]) -> dict[str, Scores]:
    """Mean scores of each category."""
    categories = sorted({item["category"] for item in items})
    return {
        category: mean_scores([item for item in items if item["category"] == category])
        for category in categories
    }
