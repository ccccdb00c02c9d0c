"""What there is to look at of a trained run, as its method draws it for a report."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from common.pages.mesh_view import ShownMesh

Picture = UInt8[np.ndarray, "_ _ 3"]  # each of a size of its own


@dataclass(frozen=True)
class ComparedView:
    """A photograph, what the run sees from its camera, and how near that is."""

    name: str
    camera: int  # its number among the cameras of the look
    held_out: bool  # whether training never saw it
    truth: Picture
    rendering: Picture
    normals: Picture
    scores: dict[str, float]


@dataclass(frozen=True)
class CameraLook:
    """The cameras of V views around the surface, in the frame that the run has learnt in.

    ``before``: their poses before they were learnt, moved as a whole to lie nearest; None where
    they were taken as they are. Points are on the surface.
    """

    names: tuple[str, ...]
    held_out: tuple[bool, ...]
    thumbnails: tuple[Picture, ...]  # all of one size, that of ``intrinsics``
    intrinsics: Float[np.ndarray, "V 3 3"]
    poses: Float[np.ndarray, "V 4 4"]
    before: Float[np.ndarray, "V 4 4"] | None
    points: Float[np.ndarray, "P 3"] | None
    colours: UInt8[np.ndarray, "P 3"] | None


@dataclass(frozen=True)
class SceneLook:
    """One object learnt from its photographs."""

    subject: str
    views: tuple[ComparedView, ...]  # held-out ones first
    meshes: tuple[ShownMesh, ...]
    cameras: CameraLook
    facts: dict[str, str]


@dataclass(frozen=True)
class ObjectLook:
    """One object of a collection: input, predictions and truths from the same sides."""

    name: str
    category: str
    seen: Picture | None  # the input picture
    predictions: tuple[Picture, ...]
    normals: tuple[Picture, ...]
    truths: tuple[Picture, ...]
    scores: dict[str, float]


@dataclass(frozen=True)
class CollectionLook:
    """Some objects of a collection, each learnt to be seen from one picture; the best first."""

    subject: str
    objects: tuple[ObjectLook, ...]
    meshes: tuple[ShownMesh, ...]
    facts: dict[str, str]


Look = SceneLook | CollectionLook


def view_facts(training: int, held_out: int, width: int, height: int) -> dict[str, str]:
    """How many views of what size a scene has, in words."""
    views = f"{training} training" + (f" and {held_out} held-out" if held_out else "") + " views"
    return {"Views": views, "Pictures": f"{width} × {height}"}


def compared_views(look: Look) -> tuple[ComparedView, ...]:
    """What two runs can be compared by: a scene's views, or one side of each object."""
    if isinstance(look, SceneLook):
        return look.views
    return tuple(
        ComparedView(
            name=f"{one.category}/{one.name}",
            camera=number,
            held_out=True,
            truth=one.truths[0],
            rendering=one.predictions[0],
            normals=one.normals[0],
            scores=one.scores,
        )
        for number, one in enumerate(look.objects)
    )
