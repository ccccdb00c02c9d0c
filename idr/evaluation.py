"""Scores of a trained scene: pictures at held-out and at training views, the mesh, the cameras."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.cameras import Cameras
from common.data.views import Views
from common.errors import UserError
from common.meshes.files import load_mesh
from common.meshes.find import find_mesh, find_textured
from common.meshes.mesh import transform_mesh
from common.meshes.metrics import compare_to_points, failed_metrics
from common.rendering.view_scores import PICTURE_SCORES, view_scores
from common.scenes.scene import read_scene_truth
from idr.camera_alignment import view_errors
from idr.experiment import Experiment
from idr.generation import scene_name
from idr.learnt_frame import held_out_cameras, true_cameras_known
from idr.pictures import render_view
from idr.texture import textured_scores

Scores = dict[str, float]
TRAINING_VIEWS = 7
DISTANCES = ("accuracy", "completeness", "chamfer_l1")
SHARES = ("normal_consistency", "f_score")


def evaluate_scene(
    experiment: Experiment,
    meshes: Path,
    views_each: int | None,
    seed: int,
    progress: Callable[[], None],
) -> dict:
    """The content of evaluation.json; ``progress`` is called after each view and the mesh.

    ``views_each`` held-out and as many training views are compared, spread evenly; None: all that
    are held out and TRAINING_VIEWS. The items are a row for each view, and one for the mesh where
    the scene has the true surface. Where there is a textured mesh, ``textured`` holds its scores at
    the same held-out views.
    """
    config, scene, numbers = experiment.config, experiment.scene, experiment.numbers
    cache, _ = experiment.model.cached(config.search.evaluation_resolution)
    aligned = held_out_cameras(config.cameras, scene, experiment.cameras)
    items = []
    for name, views, cameras, names, wanted in (
        ("held_out", scene.held_out, aligned, scene.held_out_names, views_each),
        ("training", scene.training, experiment.cameras, scene.training_names,
         views_each or TRAINING_VIEWS),
    ):  # fmt: skip
        for view in spread(len(views), wanted):
            picture = render_view(experiment.model, cache, cameras, view)
            scores = view_scores(picture, views.images[view], views.masks[view])
            items.append({"name": names[view], "set": name} | scores)
            progress()
    path = meshes / f"{scene_name(experiment)}.{config.generation.extension}"
    asset, compared = find_textured(path), spread(len(scene.held_out), views_each)
    textured = textured_scores(experiment, asset, compared) if asset and compared else {}
    mesh = mesh_item(path, Path(config.data.path), seed)
    progress()
    return {
        "method": config.method,
        "step": numbers["step"],
        "seconds": numbers["seconds"],
        "held_out": _means(items, "held_out"),
        "training": _means(items, "training"),
        "textured": textured,
        "mesh": {name: value for name, value in mesh.items() if isinstance(value, float)},
        "cameras": camera_scores(experiment),
        "baselines": {},
        "items": items + ([{"name": scene_name(experiment), "set": "mesh"} | mesh] if mesh else []),
    }


def views_compared(held_out: int, training: int, views_each: int | None) -> int:
    """How many views ``evaluate_scene`` compares, of so many there are."""
    return len(spread(held_out, views_each)) + len(spread(training, views_each or TRAINING_VIEWS))


def spread(count: int, wanted: int | None) -> list[int]:
    """At most ``wanted`` of ``count`` indices, spread evenly from the first to the last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted or count))})


def _means(items: list[dict], name: str) -> Scores:
    """The mean of each picture score over the items of a set that have it."""
    chosen = [item for item in items if item["set"] == name]
    columns = {score: [i[score] for i in chosen if score in i] for score in PICTURE_SCORES}
    return {score: float(np.mean(values)) for score, values in columns.items() if values}


def mesh_item(path: Path, scene: Path, seed: int) -> dict:
    """Scores of the newest mesh called like ``path`` against the scene's truth; without one, none.

    Distances are in world units; ``chamfer_l1_relative`` is a share of the diagonal of the truth's
    bounding box, and ``f_score`` has its threshold at 1 % of that. A mesh that is missing or
    damaged counts as a failure, with ``mesh_problem`` saying why.
    """
    truth = read_scene_truth(scene)
    if truth is None:
        return {}
    points, normals = truth
    diameter = float(np.linalg.norm(points.max(axis=0) - points.min(axis=0)))
    to_unit = np.diag([1 / diameter] * 3 + [1.0])
    problem = {}
    try:
        mesh = transform_mesh(load_mesh(find_mesh(path)), to_unit)
        scores = compare_to_points(mesh, points / diameter, normals, seed=seed)
    except UserError as error:
        scores, problem = failed_metrics(), {"mesh_problem": str(error)}
    return (
        {name: scores[name] * diameter for name in DISTANCES}
        | {"chamfer_l1_relative": scores["chamfer_l1"]}
        | {name: scores[name] for name in SHARES}
        | problem
    )


def camera_scores(experiment: Experiment) -> dict[str, Scores]:
    """Errors of the training cameras before refinement and after it; none without known truth.

    ``centre_error`` is in world units, ``centre_error_relative`` a share of each camera's distance
    from the object's middle; all after the alignment of Yariv et al. 2020.
    """
    config, scene = experiment.config.cameras, experiment.scene
    if not true_cameras_known(config):
        return {}
    scores = {"before": _camera_errors(scene.rough_cameras, scene.training)}
    if config.refine:
        scores["after"] = _camera_errors(experiment.cameras, scene.training)
    return scores


def _camera_errors(estimated: Cameras, views: Views) -> Scores:
    errors = view_errors(estimated, views.cameras)
    world_unit = float(np.cbrt(np.linalg.det(views.world_from_object[:3, :3].double().numpy())))
    distance = views.cameras.centre.norm(dim=-1).to(errors.centre)
    columns = {
        "rotation_error_deg": errors.rotation_deg,
        "centre_error": errors.centre * world_unit,
        "centre_error_relative": errors.centre / distance,
    }
    scores: Scores = {}
    for name, values in columns.items():
        scores |= {name: float(values.mean()), f"{name}_median": float(values.quantile(0.5))}
    return scores
