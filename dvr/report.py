"""What a trained model makes of its scene or of some of its objects, drawn for a report."""

import numpy as np
import torch

from common.cameras import Cameras
from common.data.images import thumbnail
from common.data.views import Views
from common.meshes.gltf import glb_bytes
from common.meshes.mesh import transform_mesh
from common.pages.glb import GLTF_FROM_PAGE
from common.pages.mesh_view import ShownMesh
from common.pages.viewer import upright_frame
from common.progress import followed
from common.rendering.picture import panels
from common.rendering.view_scores import view_scores
from common.reports.looks import (
    CameraLook,
    CollectionLook,
    ComparedView,
    ObjectLook,
    SceneLook,
    view_facts,
)
from common.reports.record import Scores, scores_in
from dvr.config import DVRConfig
from dvr.data import Objects, hold_out
from dvr.generation import make_mesh
from dvr.model import DVRModel
from dvr.pictures import object_condition, render_view

_SIZE = 120  # pixels of the shorter side of a compared view: each takes 128 looks
_TRAINING_VIEWS = 2  # compared beside the held-out ones
_SIDES = 3  # of an object of a collection
_SCENE_FACES, _OBJECT_FACES = 20_000, 6_000
_SCENE_CELLS, _OBJECT_CELLS = 128, 64
_MESHES = 4  # of a collection


def scene_look(
    model: DVRModel, config: DVRConfig, device: torch.device, views_each: int
) -> SceneLook:
    """Some held-out and training views of the one object, its surface, and its cameras."""
    every = config.data.holdout_every
    # All views in one, as for pictures alone: training needs more of them, which takes minutes.
    together = config.model_copy(
        update={"data": config.data.model_copy(update={"holdout_every": 0})}
    )
    objects = Objects(together, config.data.test_split, held_out=True)
    views, name = objects[0].views, objects.entries[0].name
    kept = hold_out(views, every, held_out=True) if every else views[[]]
    seen = hold_out(views, every, held_out=False)
    condition = object_condition(model, objects, 0, device)
    height, width = seen.masks.shape[1:]
    return SceneLook(
        subject=f"{name}, learnt from {len(seen)} photographs",
        views=tuple(_compared(model, condition, seen, kept, views_each)),
        meshes=_mesh(name, model, condition, seen.cameras, True),
        cameras=_camera_look(seen, kept),
        facts=view_facts(len(seen), len(kept), width, height),
    )


def collection_look(
    model: DVRModel, objects: Objects, evaluation: dict, device: torch.device, wanted: int
) -> CollectionLook:
    """The best and the worst ``wanted`` / 2 objects each, as they were scored; else the first."""
    scores = _scores_of(objects, evaluation)
    order = best_and_worst([_rank(one) for one in scores], wanted)
    looks = [
        _object_look(model, objects, index, scores[index], device)
        for index in followed(order, "drawing", "object")
    ]
    # Some from the best to the worst, so that both ends are among them.
    places = np.linspace(0, len(order) - 1, min(_MESHES, len(order))).round().astype(int)
    meshes: list[ShownMesh] = []
    for index in followed([order[place] for place in places], "meshes", "mesh"):
        condition = object_condition(model, objects, index, device)
        cameras = objects[index].views.cameras
        meshes += _mesh(objects.entries[index].name, model, condition, cameras, False)
    return CollectionLook(
        subject=f"{len(objects)} objects, each from one picture",
        objects=tuple(looks),
        meshes=tuple(meshes),
        facts={"Split": objects.split or "all", "Objects scored": str(len(objects))},
    )


def best_and_worst(ranks: list[float], wanted: int) -> list[int]:
    """Indices of the highest and the lowest ranks, highest first; all where there are no more."""
    order = sorted(range(len(ranks)), key=lambda index: -ranks[index])
    if len(order) <= wanted:
        return order
    best = (wanted + 1) // 2
    return order[:best] + order[len(order) - (wanted - best) :]


def _rank(scores: Scores) -> float:
    """More is better: of volumes where they are known, else of masks."""
    return scores.get("volumetric_iou", scores.get("mask_iou", 0.0))


def _scores_of(objects: Objects, evaluation: dict) -> list[Scores]:
    """What evaluation.json has about each object; nothing where it was made of other objects."""
    items = evaluation.get("items")
    known = {
        (item.get("category"), item.get("name")): scores_in(item)
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict)
    }
    return [known.get((one.category_name, one.name), {}) for one in objects.entries]


def _object_look(
    model: DVRModel, objects: Objects, index: int, scores: Scores, device: torch.device
) -> ObjectLook:
    entry, views, inputs = objects.entries[index], objects[index].views, objects[index].inputs
    views = _small(views)
    condition = object_condition(model, objects, index, device)
    # Not the first, which is the input.
    count = min(_SIDES, len(views))
    sides = np.linspace(0, len(views) - 1, count + 1).round().astype(int)[1:].tolist()
    drawn = [panels(render_view(model, condition, views.cameras, side)) for side in sides]
    return ObjectLook(
        name=entry.name,
        category=entry.category_name,
        seen=None if inputs is None else inputs[0].numpy(),
        predictions=tuple(colour for colour, _, _ in drawn),
        normals=tuple(normal for _, normal, _ in drawn),
        truths=tuple(_on_white(views, side) for side in sides),
        scores=scores,
    )


def _compared(
    model: DVRModel, condition: torch.Tensor, seen: Views, kept: Views, views_each: int
) -> list[ComparedView]:
    """Held-out views first, spread over all there are."""
    training = _TRAINING_VIEWS if len(kept) else views_each
    chosen = [(kept, 0, view) for view in _spread(len(kept), views_each)]
    chosen += [(seen, len(kept), view) for view in _spread(len(seen), training)]
    compared = []
    for views, first, view in followed(chosen, "drawing", "view"):
        one = _small(views[[view]])
        picture = render_view(model, condition, one.cameras, 0)
        colour, normals, _ = panels(picture)
        compared.append(
            ComparedView(
                name=f"{'held-out' if views is kept else 'training'} view {view}",
                camera=first + view,
                held_out=views is kept,
                truth=_on_white(one, 0),
                rendering=colour,
                normals=normals,
                scores=view_scores(picture, one.images[0], one.masks[0]),
            )
        )
    return compared


def _spread(count: int, wanted: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _small(views: Views) -> Views:
    return views.resized(_SIZE) if min(views.masks.shape[1:]) > _SIZE else views


def _on_white(views: Views, view: int) -> np.ndarray:
    return views.images[view].where(views.masks[view][..., None], 255).numpy()


def _mesh(
    name: str, model: DVRModel, condition: torch.Tensor, cameras: Cameras, scene: bool
) -> tuple[ShownMesh, ...]:
    """One mesh upright on the page, or none where there is no surface."""
    cells, faces = (_SCENE_CELLS, _SCENE_FACES) if scene else (_OBJECT_CELLS, _OBJECT_FACES)
    settings = {"resolution": cells, "faces": faces, "refinement_steps": 0}
    generation = model.config.generation.model_copy(update=settings)
    mesh = make_mesh(model, condition, generation)
    if mesh.empty:
        return ()
    page = GLTF_FROM_PAGE @ upright_frame(_poses(cameras), np.zeros(3), 1.0)
    return (ShownMesh(name, glb_bytes(transform_mesh(mesh, page))),)


def _poses(*cameras: Cameras) -> np.ndarray:
    return torch.cat([some.object_from_camera.cpu() for some in cameras]).double().numpy()


def _camera_look(seen: Views, kept: Views) -> CameraLook:
    """All cameras: held-out ones first, as compared views come."""
    thumbnails = [thumbnail(picture.numpy()) for picture in (*kept.images, *seen.images)]
    height, width = thumbnails[0].shape[:2]
    inner = [views.cameras.resized(height, width).intrinsics for views in (kept, seen)]
    names = [f"held-out view {view}" for view in range(len(kept))]
    names += [f"training view {view}" for view in range(len(seen))]
    return CameraLook(
        names=tuple(names),
        held_out=(True,) * len(kept) + (False,) * len(seen),
        thumbnails=tuple(thumbnails),
        intrinsics=torch.cat(inner).double().numpy(),
        poses=_poses(kept.cameras, seen.cameras),
        before=None,
        points=None,
        colours=None,
    )
