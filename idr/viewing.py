"""A trained scene as the live viewer shows it."""

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras, Rays
from common.data.images import thumbnail
from common.training.run_folder import RunFolder
from common.viewing.run_view import LearntRun, Mode, Photographs, RunView
from idr.experiment import Experiment, load_experiment
from idr.generation import scene_name
from idr.learnt_frame import held_out_cameras


def learnt_run(run: RunFolder, device: torch.device, checkpoint: str) -> LearntRun:
    """The one scene of a run; raises UserError as ``load_experiment`` does."""
    experiment = load_experiment(run, device, checkpoint)
    view = scene_view(experiment)
    return LearntRun(
        step=experiment.numbers["step"],
        objects=(scene_name(experiment),),
        inputs=lambda _: (),
        view=lambda *_: view,
    )


def scene_view(experiment: Experiment) -> RunView:
    """The surface and appearance, traced on the grid that evaluation uses.

    The mode "view direction" shows what the direction adds to the colour of the same point seen
    from straight above: twice that, around mid-grey. A run whose appearance is not told the
    direction has no such mode.
    """
    model = experiment.model
    cache, _ = model.cached(experiment.config.search.evaluation_resolution)

    def find(rays: Rays) -> Float[Tensor, "R"]:
        traced = model.find_surface(rays, cache)
        return traced.depth.where(traced.found, torch.inf)

    def paint(
        points: Float[Tensor, "N 3"], to_camera: Float[Tensor, "N 3"], mode: Mode
    ) -> Float[Tensor, "N 3"]:
        surface = model.surface(points)
        if mode == "normal":
            return surface.normal
        colour = model.colour(surface, to_camera)
        if mode == "colour":
            return colour
        return 0.5 + 2 * (colour - model.colour(surface, surface.normal))

    directed = experiment.config.model.appearance.view != "none"
    modes: tuple[Mode, ...] = ("colour", "normal", "depth")
    return RunView(
        find=find,
        paint=paint,
        modes=(*modes, "view direction") if directed else modes,
        photographs=_photographs(experiment),
        device=model.cache.device,
    )


def _photographs(experiment: Experiment) -> Photographs:
    """Held-out ones first; cameras as learnt."""
    scene, learnt = experiment.scene, experiment.cameras.to("cpu")
    aligned = held_out_cameras(experiment.config.cameras, scene, learnt)
    pictures = [*scene.held_out.images, *scene.training.images]
    return Photographs(
        names=(*scene.held_out_names, *scene.training_names),
        thumbnails=tuple(thumbnail(picture.numpy()) for picture in pictures),
        held_out=(True,) * len(scene.held_out) + (False,) * len(scene.training),
        cameras=Cameras(
            torch.cat([aligned.intrinsics, learnt.intrinsics]),
            torch.cat([aligned.object_from_camera, learnt.object_from_camera]),
            learnt.height,
            learnt.width,
        ),
    )
