"""Download a public data set from its authors, unpack it, and say how to train on it.

    python scripts/download_data.py --list
    python scripts/download_data.py dtu_idr
    python scripts/download_data.py shapenet /big_disk/ShapeNet --keep-archive
    python scripts/download_data.py nmr --mirror https://our.server/archives
    python scripts/download_data.py --list --json

OUT is the folder to make. The archive is fetched to OUT.zip, checked, unpacked and removed. An
interrupted download is continued by the same command. --mirror is the address of a folder
that has the archive under its authors' name. Terms and sources: docs/data.md.
"""

import argparse
import json
import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from common.data.archive import unpack
from common.data.download import download, forget
from common.errors import Stopped, UserError, run_command


@dataclass(frozen=True)
class DataSet:
    """An archive on its authors' server; docs/data.md says where each fact was found."""

    about: str
    url: str
    out: str  # where the configurations look for it
    holds: str  # a file or folder in it
    then: str  # the next command; {out} is the folder
    size: str = "?"  # of the archive, as published
    checksum: str | None = None  # algorithm:hex, as published

    @property
    def name(self) -> str:
        """The archive's."""
        return PurePosixPath(urlsplit(self.url).path).name


DVR = "https://s3.eu-central-1.amazonaws.com/avg-projects/differentiable_volumetric_rendering/data"
MIDDLEBURY = "https://vision.middlebury.edu/mview/data/data"
TRAIN = "python scripts/train.py configs/"
PREPARE = "python scripts/prepare_scene.py "

DATA_SETS = {
    "dtu_dvr": DataSet(
        about="DTU scans 65, 106, 118 as DVR's paper uses them, with depth",
        url=f"{DVR}/DTU.zip",
        out="data/DTU_DVR",
        holds="scan65",
        then=TRAIN + "dvr_DTU.yaml data.path={out}",
        size="0.5 GB",
    ),
    "dtu_idr": DataSet(
        about="15 DTU scans with masks, exact and rough cameras, as IDR's paper uses them",
        url="https://www.dropbox.com/s/ujmakiaiekdl6sh/DTU.zip?dl=1",
        out="data/DTU",
        holds="scan65/cameras.npz",
        then=TRAIN + "idr_DTU.yaml data.path={out}/scan65",
        checksum="md5:b1ad1eff5c4a4f99ae4d3503e976dafb",
    ),
    "shapenet": DataSet(
        about="ShapeNet, 13 categories: DVR's renderings with depth, inputs of Choy et al.",
        url=f"{DVR}/ShapeNet.zip",
        out="data/ShapeNet",
        holds="03001627",
        then=TRAIN + "dvr_ShapeNet.yaml data.path={out}",
        size="114 GB",
    ),
    "nmr": DataSet(
        about="ShapeNet, 13 categories: 24 views of 64 x 64 of Kato et al.",
        url=f"{DVR}/NMR_Dataset.zip",
        out="data/NMR_Dataset",
        holds="03001627",
        then=TRAIN + "dvr_NMR_rgb.yaml data.path={out}",
        size="34 GB",
    ),
    "nerf_synthetic": DataSet(
        about="NeRF's example data: the synthetic lego, and fern",
        url="https://cseweb.ucsd.edu/~viscomp/projects/LF/papers/ECCV20/nerf/nerf_example_data.zip",
        out="data/nerf_example_data",
        holds="nerf_synthetic/lego/transforms_train.json",
        then=TRAIN + "idr_blender.yaml data.path={out}/nerf_synthetic/lego",
    ),
    "temple": DataSet(
        about="Middlebury templeSparseRing: 16 photographs with cameras, no masks",
        url=f"{MIDDLEBURY}/templeSparseRing.zip",
        out="data/templeSparseRing",
        holds="templeSR_par.txt",
        then=PREPARE + "{out} {out}_scene",
        size="4 MB",
    ),
    "dino": DataSet(
        about="Middlebury dinoSparseRing: 16 photographs with cameras, no masks",
        url=f"{MIDDLEBURY}/dinoSparseRing.zip",
        out="data/dinoSparseRing",
        holds="dinoSR_par.txt",
        then=PREPARE + "{out} {out}_scene",
    ),
    "blendedmvs": DataSet(
        about="BlendedMVS: the scenes of VolSDF's paper with cameras, no masks",
        url="https://www.dropbox.com/s/c88216wzn9t6pj8/BlendedMVS.zip?dl=1",
        out="data/BlendedMVS",
        holds="scan1/cameras.npz",
        then=PREPARE + "{out}/scan1 {out}_scan1",
    ),
}


def main() -> None:
    """Download and unpack, or list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_set", nargs="?", choices=DATA_SETS, help="which one")
    parser.add_argument("out", metavar="OUT", nargs="?", type=Path, help="the folder to make")
    parser.add_argument("--mirror", metavar="URL", help="fetch URL/<name of the archive> instead")
    parser.add_argument("--keep-archive", action="store_true", help="keep OUT.zip")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--json", action="store_true", help="print the outcome, or list, as JSON")
    arguments = parser.parse_args()
    if arguments.list:
        sets = {name: asdict(one) for name, one in DATA_SETS.items()}
        print(json.dumps(sets, indent=2) if arguments.json else listing())
        return
    if arguments.data_set is None:
        parser.error("name a data set, or --list")
    wanted = DATA_SETS[arguments.data_set]
    out = arguments.out or Path(wanted.out)
    then = wanted.then.format(out=shlex.quote(str(out)))
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        try:
            fetch(wanted, out, arguments.mirror, arguments.keep_archive)
        except KeyboardInterrupt:
            raise Stopped("stopped; the same command continues") from None
        print(f"next: {then}")
    if arguments.json:
        print(json.dumps({"data_set": arguments.data_set, "out": str(out), "next": then}, indent=2))


def fetch(wanted: DataSet, out: Path, mirror: str | None, keep_archive: bool) -> None:
    """Make ``out`` hold the data set, unless it does already."""
    if (out / wanted.holds).exists():
        print(f"{out}: was there already; remove it to have it anew")
        return
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(
            f"{out}: exists, without {wanted.holds}; remove it, or name another folder as OUT"
        )
    url = wanted.url if mirror is None else f"{mirror.rstrip('/')}/{wanted.name}"
    archive = out.with_name(out.name + Path(wanted.name).suffix)
    known = "" if wanted.size == "?" else f" ({wanted.size})"
    print(f"{archive} from {url}{known}", flush=True)
    checksum = wanted.checksum
    digest = download(url, archive, checksum, copies=2)
    print(f"SHA-256 {digest}" + (f", {checksum} as published" if checksum else ""), flush=True)
    unpack(archive, out)
    if not (out / wanted.holds).exists():
        raise UserError(
            f"{out}: unpacked, but {wanted.holds} is not in it, so {archive} is another archive "
            "than was meant; look into it, and remove both"
        )
    if not keep_archive:
        forget(archive)
    print(f"{out}: is ready")


def listing() -> str:
    """A paragraph for each data set."""
    return "\n".join(
        f"{name:15} {wanted.about}\n{'':15} {wanted.size:>6}  {wanted.url}\n{'':15} to {wanted.out}"
        for name, wanted in DATA_SETS.items()
    )


if __name__ == "__main__":
    run_command(main)
