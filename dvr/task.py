"""DVR as the training loop sees it: batches, losses, validation and pictures."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from common.cameras import Rays, pixel_grid
from common.data.images import resize_image
from common.data.views import Views
from common.meshes.extract import extract_mesh
from common.rendering.image_metrics import mask_iou
from common.rendering.picture import panels
from common.training.divergence import SURFACE_SHARE
from common.training.logs import Log
from common.training.loop import StepResult
from common.training.precision import fastest_precisions
from common.training.processes import Process
from dvr.config import DVRConfig
from dvr.data import Objects, StepBatches
from dvr.model import Batch, DVRModel
from dvr.pictures import object_condition, render_view

VALIDATION_PIXELS = 1024
SHOWN_OBJECTS = 4


class DVRTask:
    """Implements common.training.loop.Task for DVR."""

    def __init__(
        self,
        model: DVRModel,
        config: DVRConfig,
        objects: Objects,
        validation: Objects,
        process: Process,
    ) -> None:
        self.model, self.config, self.device = model, config, process.device
        self.rates = [(list(model.parameters()), 1.0)]
        self.batches = StepBatches(objects, config, process.rank, process.count)
        self.workers = config.data.workers
        self.weights = config.losses.model_dump()
        self.precisions = fastest_precisions(process.device, config.model.hidden)
        self.validation = validation
        self.share = process.share

    def step(self, model: nn.Module, batch: Batch, step: int) -> StepResult:
        """The weighted terms of one batch."""
        samples = [count for start, count in self.config.march.samples if start <= step][-1]
        seed = (self.config.training.seed * 1_000_003 + step) * 4096
        batch = Batch(
            None if batch.image is None else batch.image.to(self.device, non_blocking=True),
            batch.index.to(self.device),
            batch.supervision.to(self.device),
        )
        out = model(batch, samples, seed % 2**63, self.share)
        return StepResult(out.terms, out.rays, out.evaluations, {SURFACE_SHARE: out.surface_share})

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mask IoU, and depth error of object pixels with a miss counted as the cube's size.

        On fixed random pixels of one view of every validation object, seen from its first input
        picture; for a single scene, of every held-out view.
        """
        generator = torch.Generator().manual_seed(0)
        ious, errors = [], []
        for index in range(len(self.validation)):
            item = self.validation[index]
            single = self.config.model.encoder.kind in ("none", "embedding")
            chosen = range(len(item.views)) if single else [len(item.views) // 2]
            condition = object_condition(self.model, self.validation, index, self.device)
            for view in chosen:
                iou, error = self._validate_view(condition, item.views, view, generator)
                ious.append(iou)
                errors.append(error)
        return {"mask_iou": float(np.mean(ious)), "depth_error": float(np.mean(errors))}

    def _validate_view(
        self, condition: Tensor, views: Views, view: int, generator: torch.Generator
    ) -> tuple[float, float]:
        height, width = views.masks.shape[1:]
        count = min(VALIDATION_PIXELS, height * width)
        pixel = pixel_grid(height, width)[
            torch.randperm(height * width, generator=generator)[:count]
        ]
        index = torch.full((count,), view)
        rays = views.cameras.rays(index, pixel)
        rays = Rays(rays.origin.to(self.device), rays.direction.to(self.device))
        hits, _ = self.model.find_surface(
            condition,
            torch.zeros(count, dtype=torch.long, device=self.device),
            rays,
            self.config.march.evaluation_samples,
        )
        x, y = pixel.long().unbind(-1)
        mask = views.masks[view, y, x]
        covered = hits.covered.cpu()
        iou = float(mask_iou(covered[None], mask[None]))
        known = views.depth if views.depth is not None else views.hull_depth
        if known is None:
            return iou, 1 - iou
        per_z = views.cameras.unit_z_directions(index, pixel).norm(dim=-1)
        difference = (hits.depth.cpu() / per_z - known[view, y, x]).abs()
        difference = torch.where(covered, difference, 1.0).clamp_max(1.0)
        counted = mask & torch.isfinite(known[view, y, x])
        return iou, float(difference[counted].sum() / counted.sum().clamp_min(1))

    def show(self, log: Log, step: int) -> None:
        """Input, prediction, normals and depth of a few validation objects, and a mesh."""
        rows = []
        for index in range(min(SHOWN_OBJECTS, len(self.validation))):
            item = self.validation[index]
            condition = object_condition(self.model, self.validation, index, self.device)
            small = item.views if item.views.masks.shape[1] <= 128 else item.views.resized(96)
            view = len(small) // 2
            picture = render_view(self.model, condition, small.cameras, view)
            seen = [] if item.inputs is None else [_fit(item.inputs[0].numpy(), small)]
            rows.append(
                np.concatenate([*seen, small.images[view].numpy(), *panels(picture)], axis=1)
            )
        log.image("pictures/input, truth, colour, normal, depth", np.concatenate(rows), step)
        condition = object_condition(self.model, self.validation, 0, self.device)
        with torch.no_grad():
            half = (0.5, 0.5, 0.5)
            mesh = extract_mesh(
                self.model.level(condition),
                (-0.5, -0.5, -0.5),
                half,
                resolution=64,
                coarse_resolution=32,
                device=self.device,
            ).mesh
        if len(mesh.faces):
            log.mesh("surface/mesh", mesh.vertices, mesh.faces, None, step)


def _fit(image: UInt8[np.ndarray, "h w 3"], views: Views) -> UInt8[np.ndarray, "H W 3"]:
    return resize_image(image, *views.masks.shape[1:])
