"""The frame a run has learnt in, beside the frame of its scene's true cameras.

A similarity of surface and cameras together changes no picture. So where training starts from
cameras that are not the scene's own, what is learnt agrees with the truth up to a similarity only.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras
from common.small_matrices import product
from idr.camera_alignment import Similarity, align_cameras
from idr.config import CamerasConfig
from idr.data import Scene


def true_cameras_known(config: CamerasConfig) -> bool:
    """Whether training started from other cameras than the scene's own, which then are the truth.

    Where it started from the scene's own, nothing better is known.
    """
    return config.file is not None or config.noise_deg > 0 or config.noise_translation > 0


def true_from_learnt(config: CamerasConfig, scene: Scene, learnt: Cameras) -> Similarity:
    """From the frame in which the training cameras are ``learnt`` to that of the scene's own ones.

    The identity where no truth is known. Raises UserError as ``align_cameras`` does.
    """
    if true_cameras_known(config):
        return align_cameras(learnt, scene.training.cameras)
    rotation = torch.eye(3, dtype=torch.float64)
    return Similarity(1.0, rotation, torch.zeros(3, dtype=torch.float64))


def held_out_cameras(config: CamerasConfig, scene: Scene, learnt: Cameras) -> Cameras:
    """The held-out views' own cameras, brought into the learnt frame."""
    return moved(scene.held_out.cameras, inverse(true_from_learnt(config, scene, learnt)))


def world_from_learnt(config: CamerasConfig, scene: Scene, learnt: Cameras) -> Float[Tensor, "4 4"]:
    """The similarity from the learnt frame to the files' own frame and units, in float64."""
    alignment = true_from_learnt(config, scene, learnt)
    return scene.training.world_from_object.double().cpu() @ alignment.as_matrix()


def moved(cameras: Cameras, by: Similarity) -> Cameras:
    """The same cameras in another frame; a scale moves their centres and leaves poses rigid."""
    pose = cameras.object_from_camera.clone()
    pose[:, :3, :3] = product(by.rotation.to(pose), pose[:, :3, :3])
    pose[:, :3, 3] = by.apply(cameras.centre)
    return Cameras(cameras.intrinsics, pose, cameras.height, cameras.width)


def inverse(similarity: Similarity) -> Similarity:
    """The map back."""
    rotation = similarity.rotation.T
    return Similarity(
        1 / similarity.scale, rotation, -(rotation @ similarity.translation) / similarity.scale
    )
