"""Two pictures in one place, with a divider to drag between them."""

import numpy as np
from jaxtyping import UInt8

from common.pages.markup import Html, element
from common.pages.pictures import jpeg_uri


def slider_element(
    left: UInt8[np.ndarray, "_ _ 3"],
    right: UInt8[np.ndarray, "_ _ 3"],
    names: tuple[str, str],
    description: str,
    group: str = "",
) -> Html:
    """``left`` shows left of the divider and ``right`` right of it; needs the block "slider".

    Dividers of one ``group`` move together. ValueError where the pictures differ in size.
    """
    if left.shape != right.shape:
        raise ValueError(f"pictures of {left.shape} and {right.shape} cannot share a place")
    height, width = left.shape[:2]
    size = {"width": str(width), "height": str(height)}
    under = element("img", {"src": jpeg_uri(left), "alt": f"{description}: {names[0]}"} | size)
    over = element(
        "img",
        {"class": "over", "src": jpeg_uri(right), "alt": f"{description}: {names[1]}"} | size,
    )
    divider = {
        "type": "range",
        "min": "0",
        "max": "100",
        "step": "0.5",
        "value": "50",
        "aria-label": f"{names[0]} | {names[1]}: {description}",
        "data-group": group,
    }
    labels = (
        element("span", {"class": "side left", "aria-hidden": "true"}, names[0]),
        element("span", {"class": "side right", "aria-hidden": "true"}, names[1]),
    )
    return element("div", {"class": "slider"}, under, over, *labels, element("input", divider))
