"""A quick look at a scene before training: a sentence to print, and a page to open."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.views import Views
from common.scenes.checks.preflight import examine, verdict
from common.scenes.checks.report import SceneFacts, ScenePicture, write_report
from common.scenes.development import Pictures
from common.scenes.formats.camera_export import world_poses


def first_look(report: Path, source: str, views: Views, names: Sequence[str]) -> str:
    """Write ``report`` about views of one scene, and say whether cameras and masks agree.

    It takes a second or two: a wrong camera convention, the commonest mistake, is seen before
    hours are spent on it.
    """
    world_from_object = views.world_from_object.double().numpy()
    pictures = Pictures(
        tuple(names),
        views.images.numpy(),
        views.masks.numpy(),
        views.cameras.intrinsics.double().numpy(),
        world_poses(views.cameras, views.world_from_object),
    )
    findings = examine(pictures, thorough=False)
    said = verdict(findings)
    radius = float(np.cbrt(np.linalg.det(world_from_object[:3, :3])))
    shown = ScenePicture(
        pictures.images,
        pictures.masks,
        pictures.intrinsics,
        pictures.world_from_camera,
        world_from_object[:3, 3],
        radius,
    )
    height, width = views.masks.shape[1:]
    facts = SceneFacts(source, "scene", (width, height), "the source's")
    write_report(report, findings, shown, facts, said)
    if findings.remedies:
        said += "\n(options of scripts/prepare_scene.py, which makes a mended scene of this one)"
    return said
