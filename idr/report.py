"""What a trained scene looks like, drawn for its report."""

from pathlib import Path

import numpy as np
import torch

from common.cameras import Cameras
from common.data.images import thumbnail
from common.data.views import Views
from common.meshes.gltf import glb_bytes, has_texture
from common.meshes.mesh import Mesh, transform_mesh
from common.pages.glb import GLTF_FROM_PAGE, placed_glb
from common.pages.mesh_view import ShownMesh
from common.pages.viewer import upright_frame
from common.progress import ProgressLine, followed
from common.rendering.picture import panels
from common.rendering.view_scores import view_scores
from common.reports.looks import CameraLook, ComparedView, SceneLook, view_facts
from idr.camera_alignment import align_cameras
from idr.evaluation import spread
from idr.experiment import Experiment
from idr.generation import make_mesh, scene_name
from idr.learnt_frame import held_out_cameras, moved, true_from_learnt
from idr.pictures import render_view

_SIZE = 240  # pixels of the shorter side of a compared view
_TRAINING_VIEWS = 2  # compared beside the held-out ones
_FACES, _CELLS = 20_000, 128
_LARGEST_FILE = 3_000_000  # bytes of a textured mesh that the page takes as it is


def scene_look(experiment: Experiment, meshes: Path, views_each: int) -> SceneLook:
    """Some held-out and training views, the surface, and the cameras as learnt.

    A textured GLB among ``meshes`` is shown as it is where it is small enough; else a mesh is made.
    """
    scene = experiment.scene
    mesh = _simple_mesh(experiment)
    height, width = scene.training.masks.shape[1:]
    return SceneLook(
        subject=f"{scene_name(experiment)}, learnt from {len(scene.training)} photographs",
        views=tuple(_compared(experiment, views_each)),
        meshes=() if mesh.empty else (_shown_mesh(experiment, meshes, mesh),),
        cameras=_camera_look(experiment, mesh),
        facts=view_facts(len(scene.training), len(scene.held_out), width, height),
    )


def _compared(experiment: Experiment, views_each: int) -> list[ComparedView]:
    """Held-out views first, spread over all there are."""
    config, scene, model = experiment.config, experiment.scene, experiment.model
    cache, _ = model.cached(config.search.evaluation_resolution)
    aligned = held_out_cameras(config.cameras, scene, experiment.cameras)
    training = views_each if len(scene.held_out) == 0 else _TRAINING_VIEWS
    chosen = [
        (scene.held_out, aligned, scene.held_out_names, 0, view)
        for view in spread(len(scene.held_out), views_each)
    ] + [
        (scene.training, experiment.cameras, scene.training_names, len(scene.held_out), view)
        for view in spread(len(scene.training), training)
    ]
    compared = []
    for views, cameras, names, first, view in followed(chosen, "drawing", "view"):
        one, camera = _small(views[[view]], cameras[[view]])
        picture = render_view(model, cache, camera, 0)
        colour, normals, _ = panels(picture)
        scores = view_scores(picture, one.images[0], one.masks[0])
        truth = one.images[0].where(one.masks[0][..., None], 255)
        compared.append(
            ComparedView(
                name=names[view],
                camera=first + view,
                held_out=views is scene.held_out,
                truth=truth.numpy(),
                rendering=colour,
                normals=normals,
                scores=scores,
            )
        )
    return compared


def _small(views: Views, cameras: Cameras) -> tuple[Views, Cameras]:
    """The same pictures no larger than a report shows them."""
    if min(views.masks.shape[1:]) > _SIZE:
        views = views.resized(_SIZE)
    return views, cameras.resized(*views.masks.shape[1:])


def _simple_mesh(experiment: Experiment) -> Mesh:
    settings = {"resolution": _CELLS, "faces": _FACES}
    generation = experiment.config.generation.model_copy(update=settings)
    with ProgressLine("mesh", "point") as line:
        return make_mesh(experiment.model, generation, line.advance)


def _shown_mesh(experiment: Experiment, meshes: Path, mesh: Mesh) -> ShownMesh:
    """Upright on the page, whatever the scene's own axes are."""
    name, page = scene_name(experiment), GLTF_FROM_PAGE @ _page_frame(experiment.cameras)
    for path in sorted(meshes.glob("*.glb")):
        if path.stat().st_size <= _LARGEST_FILE and has_texture(content := path.read_bytes()):
            alignment = true_from_learnt(
                experiment.config.cameras, experiment.scene, experiment.cameras
            )
            world = experiment.scene.training.world_from_object.double().cpu().numpy()
            world = world @ alignment.as_matrix().cpu().numpy()
            return ShownMesh(name, placed_glb(content, page @ np.linalg.inv(world)))
    return ShownMesh(name, glb_bytes(transform_mesh(mesh, page)))


def _page_frame(cameras: Cameras) -> np.ndarray:
    poses = cameras.object_from_camera.detach().cpu().double().numpy()
    return upright_frame(poses, np.zeros(3), 1.0)


def _camera_look(experiment: Experiment, mesh: Mesh) -> CameraLook:
    """All cameras: held-out ones first, as compared views come."""
    config, scene = experiment.config.cameras, experiment.scene
    learnt = experiment.cameras.to("cpu")
    aligned = held_out_cameras(config, scene, learnt)
    before = None
    if config.refine:
        rough = moved(scene.rough_cameras, align_cameras(scene.rough_cameras, learnt))
        before = _poses(aligned, rough)
    pictures = [*scene.held_out.images, *scene.training.images]
    thumbnails = [thumbnail(picture.numpy()) for picture in pictures]
    height, width = thumbnails[0].shape[:2]
    inner = [cameras.resized(height, width).intrinsics for cameras in (aligned, learnt)]
    return CameraLook(
        names=(*scene.held_out_names, *scene.training_names),
        held_out=(True,) * len(scene.held_out) + (False,) * len(scene.training),
        thumbnails=tuple(thumbnails),
        intrinsics=torch.cat(inner).double().numpy(),
        poses=_poses(aligned, learnt),
        before=before,
        points=None if mesh.empty else mesh.vertices.astype(np.float64),
        colours=mesh.colours,
    )


def _poses(*cameras: Cameras) -> np.ndarray:
    poses = [some.object_from_camera.detach().cpu() for some in cameras]
    return torch.cat(poses).double().numpy()
