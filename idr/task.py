"""IDR as the training loop sees it: batches, losses, validation and pictures."""

import numpy as np
import torch
from torch import nn

from common.cameras import Cameras
from common.data.views import Views
from common.errors import UserError
from common.meshes.extract import extract_mesh
from common.rendering.image_metrics import mask_iou
from common.rendering.picture import panels
from common.training.divergence import SURFACE_SHARE
from common.training.logs import Log
from common.training.loop import StepResult
from common.training.precision import fastest_precisions
from common.training.processes import Process
from idr.camera_alignment import camera_errors
from idr.config import IDRConfig
from idr.data import PixelBatch, PixelBatches, Scene, pixels_at
from idr.learnt_frame import held_out_cameras, true_cameras_known
from idr.model import IDRModel
from idr.pictures import render_view, trace_pixels

VALIDATION_PIXELS = 2048
SHOWN_HEIGHT = 150
SHOWN_VIEWS = 3


class IDRTask:
    """Implements common.training.loop.Task for IDR."""

    def __init__(self, model: IDRModel, config: IDRConfig, scene: Scene, process: Process) -> None:
        self.model, self.config, self.device = model, config, process.device
        self.cameras = scene.rough_cameras.to(process.device)
        self.batches = PixelBatches(scene.training, config, process.rank, process.count)
        self.workers, self.share = 0, process.share
        names = ["rgb", "mask", "eikonal", "smoothness"]
        if scene.training.coverage is not None:
            names.append("outline")
        self.weights = {name: getattr(config.losses, name) for name in names}
        self.precisions = fastest_precisions(process.device, config.model.width)
        self.rates = model.rates()
        self.scene = scene

    def step(self, model: nn.Module, batch: PixelBatch, step: int) -> StepResult:
        """The terms of one batch, and how many of the object's pixels met the surface."""
        out = model(batch.to(self.device), self.cameras, step, self.share)
        rays, notes = len(batch.mask), {SURFACE_SHARE: out.surface_share}
        return StepResult(out.terms, rays, out.evaluations, notes)

    @torch.no_grad()
    def _check_cameras(self) -> None:
        """UserError where a camera is inside the learnt solid: nothing can be seen from there."""
        centre = learnt_cameras(self.model, self.cameras).centre
        inside = (centre.norm(dim=-1) < 1) & (self.model.sdf(centre) < 0)
        if inside.any():
            names = [self.scene.training_names[i] for i in inside.nonzero()[:, 0].tolist()]
            raise UserError(
                f"{self.config.data.path}: the learnt solid encloses the camera of {names[0]} "
                f"({len(names)} in all). The object's sphere is too large or misplaced (check "
                "scale_mat), or a learnt camera drifted (lower cameras.rate)"
            )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR inside the masks (a miss counts as white) and mask IoU on fixed random pixels.

        Of the held-out views, or of the training views where none is held out.
        """
        self._check_cameras()
        views, cameras = validation_views(self.model, self.scene, self.cameras)
        total = views.masks.numel()
        generator = torch.Generator().manual_seed(0)
        count = min(VALIDATION_PIXELS * len(views), total)
        chosen = torch.randint(total, (count,), generator=generator)
        batch = pixels_at(views, views.masks, chosen).to(self.device)
        cache, _ = self.model.cached(self.config.search.evaluation_resolution)
        parts = [
            trace_pixels(self.model, cache, cameras, view, pixel)
            for view, pixel in zip(batch.view.split(2**15), batch.pixel.split(2**15), strict=True)
        ]
        colour, found = torch.cat([p[0] for p in parts]), torch.cat([p[3] for p in parts])
        square = (colour - batch.colour).square()[batch.mask].mean()
        iou = mask_iou(found[None, :], batch.mask[None, :])
        scores = {"psnr": float(-10 * square.log10()), "mask_iou": float(iou)}
        if true_cameras_known(self.config.cameras):
            learnt = learnt_cameras(self.model, self.cameras)
            scores |= camera_errors(learnt, self.scene.training.cameras)
        return scores

    @torch.no_grad()
    def show(self, log: Log, step: int) -> None:
        """Truth, colour, normals and depth of a few views, and a coarse mesh."""
        views, cameras = validation_views(self.model, self.scene, self.cameras)
        small = views.resized(min(SHOWN_HEIGHT, *views.masks.shape[1:]))
        cameras = cameras.resized(*small.masks.shape[1:])
        cache, _ = self.model.cached(self.config.search.evaluation_resolution)
        picked = np.linspace(0, len(small) - 1, min(SHOWN_VIEWS, len(small))).round().astype(int)
        rows = []
        for view in picked.tolist():
            picture = render_view(self.model, cache, cameras, view)
            rows.append(np.concatenate([small.images[view].numpy(), *panels(picture)], axis=1))
        log.image("pictures/truth, colour, normal, depth", np.concatenate(rows), step)
        mesh = extract_mesh(
            self.model.sdf, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), 64, 32, device=self.device
        ).mesh
        if not mesh.empty:
            log.mesh("surface/mesh", mesh.vertices, mesh.faces, None, step)


def learnt_cameras(model: IDRModel, rough: Cameras) -> Cameras:
    """The training cameras as refined, or as they were given."""
    return rough if model.refinement is None else model.refinement()


def validation_views(model: IDRModel, scene: Scene, rough: Cameras) -> tuple[Views, Cameras]:
    """The held-out views, or else those learnt from, with their cameras in the learnt frame."""
    learnt = learnt_cameras(model, rough)
    if len(scene.held_out):
        cameras = held_out_cameras(model.config.cameras, scene, learnt)
        return scene.held_out, cameras.to(rough.intrinsics.device)
    return scene.training, learnt
