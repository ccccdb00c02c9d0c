"""TensorBoard's names of curves, grouped by what they mean, and the page that shows them together.

Every run has the same names and the same page, so that several lie over each other.
"""

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

_OPTIMISER = ("learning_rate", "gradient_norm", "left_out")

# Each chart has the curves whose names match one of its regular expressions.
_PAGE = {
    "overview": {
        "loss, weighted total": [r"loss/total"],
        "mask IoU": [r"metric/mask_iou"],
        "PSNR, dB": [r"metric/psnr"],
        "share of the object's pixels whose ray meets the surface": [r"surface/surface_share"],
    },
    "loss terms, unweighted": {
        "colour": [r"loss/rgb"],
        "outline": [r"loss/(mask|outline|freespace|occupancy|hull)"],
        "shape": [r"loss/(eikonal|smoothness|normal|depth)"],
    },
    "cameras": {
        "rotation error, degrees": [r"cameras/rotation_error.*"],
        "centre error": [r"cameras/centre_error.*"],
    },
    "training": {
        "learning rate": [r"optimiser/learning_rate"],
        "gradient norm": [r"optimiser/gradient_norm"],
        "steps per second": [r"speed/steps_per_second"],
        "network evaluations per second": [r"speed/evaluations_per_second"],
    },
}


def curve(group: str, name: str) -> str:
    """The curve of a recorded number: loss/, metric/, surface/, cameras/, optimiser/ or speed/.

    A number of no known meaning keeps its group, ``train`` or ``validation``.
    """
    if name.startswith(("rotation_error", "centre_error")):
        return f"cameras/{name}"
    if group == "validation":
        return f"metric/{name}"
    if name == "loss":
        return "loss/total"
    if name.startswith("loss_"):
        return f"loss/{name.removeprefix('loss_')}"
    if name.startswith("surface_"):
        return f"surface/{name}"
    if name.endswith("_per_second"):
        return f"speed/{name}"
    return f"optimiser/{name}" if name in _OPTIMISER else f"{group}/{name}"


def page() -> Summary:
    """The layout of TensorBoard's page of custom scalars."""
    return summary.custom_scalars(
        {
            category: {title: ["Multiline", names] for title, names in charts.items()}
            for category, charts in _PAGE.items()
        }
    )
