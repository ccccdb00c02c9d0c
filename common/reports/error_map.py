"""Where a rendering differs from its photograph, as a picture."""

import numpy as np
from jaxtyping import UInt8

FULL = 0.25  # of the range of a channel: this error and larger ones have the last colour
# From no error to FULL: lightness grows evenly, so that it also reads in grey.
_COLOURS = np.array(
    [[10, 8, 24], [66, 20, 92], [142, 38, 92], [212, 72, 62], [248, 150, 46], [254, 240, 170]]
)


def error_map(
    truth: UInt8[np.ndarray, "h w 3"], rendering: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The mean absolute difference of the channels in colours from dark to light."""
    error = np.abs(truth.astype(np.float64) - rendering).mean(axis=-1) / 255
    place = np.clip(error / FULL, 0, 1) * (len(_COLOURS) - 1)
    stops = np.arange(len(_COLOURS))
    channels = [np.interp(place, stops, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def colours_in_css() -> str:
    """The same colours as a CSS gradient from left to right."""
    stops = (f"rgb({r} {g} {b})" for r, g, b in _COLOURS.tolist())
    return f"linear-gradient(to right, {', '.join(stops)})"
