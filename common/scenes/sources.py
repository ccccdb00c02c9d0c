"""Which format a source of photographs has, and its reader."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.scenes.capture import Capture
from common.scenes.formats.colmap import find_model, read_colmap
from common.scenes.formats.dvr_dtu import holds_dvr_dtu, read_dvr_dtu
from common.scenes.formats.idr_folder import holds_idr_folder, read_idr_folder
from common.scenes.formats.middlebury import holds_middlebury, read_middlebury
from common.scenes.formats.mvsnet import holds_mvsnet, read_mvsnet
from common.scenes.formats.projections import holds_projections, read_projections
from common.scenes.formats.transforms import holds_transforms, read_transforms


@dataclass(frozen=True)
class Format:
    """A layout of files with cameras."""

    name: str
    files: str  # what it is recognised by, for messages
    holds: Callable[[Path], bool]  # cheap: looks at names, not at contents
    read: Callable[[Path], Capture]


# In the order they are looked for: the more particular a layout's files, the earlier.
FORMATS = (
    Format("idr", "cameras.npz or cameras_sphere.npz", holds_idr_folder, read_idr_folder),
    Format("dvr_dtu", "cameras.npz with camera_mat_i", holds_dvr_dtu, read_dvr_dtu),
    Format(
        "transforms", "transforms.json or transforms_train.json", holds_transforms, read_transforms
    ),
    Format(
        "colmap",
        "sparse/0 with cameras.bin or cameras.txt",
        lambda path: find_model(path) is not None,
        read_colmap,
    ),
    Format("middlebury", "*_par.txt", holds_middlebury, read_middlebury),
    Format("mvsnet", "cams/*_cam.txt", holds_mvsnet, read_mvsnet),
    Format("projections", "3x4 matrices in *.txt, *.npy", holds_projections, read_projections),
)


def detect(path: Path) -> Format | None:
    """The first format whose files are here."""
    return next((known for known in FORMATS if known.holds(path)), None)


def format_of(path: Path, name: str | None = None) -> Format:
    """The format of this name, or else the one detected.

    Raises UserError where there is no such file or folder, or no cameras are found.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if name is not None:
        return next(known for known in FORMATS if known.name == name)
    found = detect(path)
    if found is None:
        raise UserError(
            f"{path}: no cameras found; looked for "
            + "; ".join(f"{known.files} ({known.name})" for known in FORMATS)
        )
    return found
