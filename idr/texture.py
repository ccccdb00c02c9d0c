"""A texture for a scene's mesh from the appearance network, and how the result looks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from common.meshes.bake import Shade, TextureSettings, bake
from common.meshes.draw import draw_textured
from common.meshes.files import load_textured
from common.meshes.gloss import Observations, fit_environment, mirror, to_linear, to_srgb, visible
from common.meshes.mesh import Mesh, transform_mesh
from common.meshes.metrics import sample_surface
from common.meshes.textured import TexturedMesh
from common.meshes.visibility import Visibility, see
from common.rendering.view_scores import PICTURE_SCORES, view_scores
from idr.camera_alignment import Similarity
from idr.experiment import Experiment
from idr.learnt_frame import held_out_cameras, moved, world_from_learnt
from idr.model import IDRModel, Surface

Points = Float[Tensor, "N 3"]

CHUNK = 2**13
GLOSS_POINTS = 20_000  # surface points from which the mirrored environment is found


@torch.no_grad()
def texture_mesh(
    experiment: Experiment,
    mesh: Mesh,
    settings: TextureSettings,
    progress: Callable[[int], None] | None = None,
) -> TexturedMesh:
    """The mesh, given in the learnt frame and with normals, painted and moved to world units."""
    model = experiment.model
    world = _world(experiment)

    def surface(points: Points) -> tuple[Float[Tensor, "N"], Points]:
        at = model.geometry(points)
        return at.sdf.detach(), at.gradient.detach()

    with nn.utils.parametrize.cached():
        environment = None
        shade = seen_from_above(model)
        if settings.colours != "normal":
            visibility = see(mesh, experiment.cameras)
            if settings.colours == "gloss":
                environment = mirrored_environment(model, visibility, mesh, world.rotation)
            shade = seen_by_cameras(model, visibility, environment, world.rotation)
        textured = bake(
            mesh, surface, shade, settings, chunk=CHUNK, device=model.cache.device,
            progress=progress,
        )  # fmt: skip
    return replace(
        textured,
        mesh=transform_mesh(textured.mesh, world.as_matrix().numpy()),
        environment=None if environment is None else environment.cpu().numpy(),
    )


def seen_from_above(model: IDRModel) -> Shade:
    """Colours as a camera straight above each point sees them."""

    def shade(points: Points) -> tuple[Points, Points]:
        at = model.surface(points)
        return model.colour(at, at.normal), at.normal

    return shade


def seen_by_cameras(
    model: IDRModel,
    visibility: Visibility,
    environment: Float[Tensor, "h w 3"] | None,
    world_rotation: Float[Tensor, "3 3"],
) -> Shade:
    """The mean colour over the cameras that see each point, the more direct the heavier.

    With an environment, which is given in the world's directions, less what a coat mirrors of it.
    Points that no camera sees are looked at from straight above.
    """

    def own(at: Surface, view: Points) -> tuple[Points, Points]:
        """What a point itself sends to a camera, and how much errors of it show."""
        colour = model.colour(at, view)
        if environment is None:
            return colour, torch.ones_like(colour)
        cosine, mirrored = _mirrored(at.normal, view)
        coat = mirror(environment, mirrored @ world_rotation.to(mirrored).T, cosine)
        return to_linear(colour) - coat, visible(colour).square()

    def shade(points: Points) -> tuple[Points, Points]:
        at = model.surface(points)
        share_of_camera = visibility.weights(points, at.normal)
        total, weights = torch.zeros_like(points), torch.zeros_like(points)
        for seen, part, view, share in _sights(visibility, at, share_of_camera):
            light, shows = own(part, view)
            total[seen] += share[:, None] * shows * light
            weights[seen] += share[:, None] * shows
        unseen = (share_of_camera.sum(dim=0) == 0).nonzero()[:, 0]
        part = _part(at, unseen)
        total[unseen], weights[unseen] = own(part, part.normal)[0], 1.0
        mean = total / weights
        return mean if environment is None else to_srgb(mean), at.normal

    return shade


def mirrored_environment(
    model: IDRModel, visibility: Visibility, mesh: Mesh, world_rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "h w 3"]:
    """What a clear coat on the surface would have to mirror, in the world's directions."""
    points, _ = sample_surface(mesh, GLOSS_POINTS, np.random.default_rng(0))
    at = model.surface(torch.from_numpy(points).float().to(model.cache.device))
    weight = visibility.weights(at.point, at.normal)
    parts = []
    for seen, part, view, share in _sights(visibility, at, weight):
        cosine, mirrored = _mirrored(part.normal, view)
        colour = model.colour(part, view)
        shows = share[:, None] * visible(colour).square()
        direction = mirrored @ world_rotation.to(mirrored).T
        parts.append((seen, direction, cosine, to_linear(colour), shows))
    return fit_environment(
        Observations(*(torch.cat(column) for column in zip(*parts, strict=True)))
    )


def textured_scores(experiment: Experiment, path: Path, chosen: Sequence[int]) -> dict[str, float]:
    """The mean ``view_scores`` of a textured mesh file as drawn, over ``chosen`` held-out views."""
    config, scene = experiment.config, experiment.scene
    learnt = held_out_cameras(config.cameras, scene, experiment.cameras).to("cpu")
    cameras = moved(learnt, _world(experiment))
    textured, views = load_textured(path), scene.held_out
    rows = []
    for view in chosen:
        picture = draw_textured(textured, cameras, view, config.rendering.samples)
        rows.append(view_scores(picture, views.images[view], views.masks[view]))
    columns = {name: [row[name] for row in rows if name in row] for name in PICTURE_SCORES}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


def _sights(
    visibility: Visibility, at: Surface, weight: Float[Tensor, "V N"]
) -> Iterator[tuple[Int[Tensor, "M"], Surface, Float[Tensor, "M 3"], Float[Tensor, "M"]]]:
    """For each camera the points it sees: indices, themselves, directions to it, and weights."""
    for centre, share in zip(visibility.cameras.centre, weight, strict=True):
        seen = share.nonzero()[:, 0]
        part = _part(at, seen)
        yield seen, part, normalize(centre - part.point, dim=-1), share[seen]


def _part(at: Surface, index: Int[Tensor, "M"]) -> Surface:
    return Surface(at.point[index], at.gradient[index], at.feature[index])


def _mirrored(normal: Points, view: Points) -> tuple[Float[Tensor, "N"], Points]:
    """The cosine of normal and view, and the view mirrored at the normal."""
    cosine = (normal * view).sum(dim=-1)
    return cosine, 2 * cosine[:, None] * normal - view


def _world(experiment: Experiment) -> Similarity:
    """From the learnt frame to the world's."""
    matrix = world_from_learnt(experiment.config.cameras, experiment.scene, experiment.cameras)
    scale = float(matrix[:3, :3].det().abs()) ** (1 / 3)
    return Similarity(scale, matrix[:3, :3] / scale, matrix[:3, 3])
