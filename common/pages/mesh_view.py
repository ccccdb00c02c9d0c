"""Meshes to turn with the mouse, by the model-viewer that is kept in vendor/."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from common.pages.markup import Html, element, together
from common.pages.pictures import jpeg_uri

_HINT = "Drag to turn, wheel to zoom, right-drag to move"


@dataclass(frozen=True)
class ShownMesh:
    """A binary glTF file with y up, and what to call it."""

    name: str
    content: bytes


def mesh_view(
    identifier: str, meshes: Sequence[ShownMesh], poster: UInt8[np.ndarray, "h w 3"] | None
) -> Html:
    """A viewer of one mesh at a time, with buttons for the others; needs the block "mesh_view".

    ``poster`` stands in its place until it is drawn, and where a browser has no WebGL.
    """
    viewer = {
        "camera-controls": "",
        "camera-orbit": "30deg 72deg auto",
        "min-camera-orbit": "auto auto 20%",
        "interaction-prompt": "none",
        "shadow-intensity": "0.7",
        "shadow-softness": "0.9",
        "exposure": "1",
        "tone-mapping": "none",
        "rotation-per-second": "14deg",
        "touch-action": "pan-y",
        "loading": "eager",
        "alt": f"3D mesh. {_HINT}",
    }
    shown = () if poster is None else (_poster(poster),)
    scripts = (
        element(
            "script",
            {"type": "text/plain", "id": f"{identifier}-{number}"},
            Html(base64.b64encode(mesh.content).decode()),
        )
        for number, mesh in enumerate(meshes)
    )
    return element(
        "div",
        {"class": "mesh-view", "data-mesh-view": identifier},
        element("model-viewer", viewer, *shown),
        element("div", {"class": "tools"}, _choice(meshes), _looks(), element("small", {}, _HINT)),
        *scripts,
    )


def _poster(picture: UInt8[np.ndarray, "h w 3"]) -> Html:
    return element("img", {"slot": "poster", "src": jpeg_uri(picture), "alt": ""})


def _choice(meshes: Sequence[ShownMesh]) -> Html:
    if len(meshes) < 2:
        return Html("")
    return together(
        *(
            _button({"data-mesh": str(number)}, mesh.name, number == 0)
            for number, mesh in enumerate(meshes)
        ),
        element("span", {"class": "rule"}),
    )


def _looks() -> Html:
    return together(
        _button({"data-look": "colours"}, "Colours", True),
        _button({"data-look": "shape"}, "Shape", False),
        _button({"data-turn": ""}, "Turning", True),
    )


def _button(attributes: dict[str, str], words: str, pressed: bool) -> Html:
    state = {"type": "button", "aria-pressed": str(pressed).lower()}
    return element("button", state | attributes, element("bdi", {}, words))
