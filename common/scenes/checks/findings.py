"""What a look at a scene before training found, for the verdict and the report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewFindings:
    """One view; doubts are sentences for a person."""

    name: str
    hull_iou: float  # of its mask and the visual hull of all masks as this camera sees it
    mask_share: float  # of the picture that is object
    sharpness: float  # against the median view's: 1 is usual
    brightness: float  # mean of the object, 0 to 1
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """Another reading of the same files, tried on the masks."""

    name: str  # "inverted poses"
    remedy: str  # "--invert-poses"
    hull_iou: float


@dataclass(frozen=True)
class Findings:
    """All views; ``remedies`` are tried alternatives that fit clearly better, best first."""

    hull_iou: float  # mean over views
    coverage: float  # share of directions around the object within 30 degrees of a camera
    views: tuple[ViewFindings, ...]
    remedies: tuple[Alternative, ...] = ()
    doubts: tuple[str, ...] = ()  # of the scene as a whole

    @property
    def good(self) -> bool:
        """Whether training may start without a second thought."""
        return not self.remedies and not self.doubts
