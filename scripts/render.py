"""Draw a trained run from the data's cameras or along an orbit.

    python scripts/render.py                                     the newest run, its test views
    python scripts/render.py out/dvr_DTU --orbit 60 --format mp4
    python scripts/render.py out/dvr_ShapeNet --objects 3 --views 4 --size 256
    python scripts/render.py out/dvr_ShapeNet --contact-sheet

Writes RUN/renders/<category>/<object>/{colour,normal,depth,mask}/NNNN.png, and depth as float32
camera z (EXR, infinite where there is nothing) with --float-depth. --format gif or mp4 writes one
film per kind instead of pictures; --contact-sheet one picture, RUN/contact_sheet.png, with a row
per object: input | prediction and its normals from three sides | truth from the same sides.
"""

import argparse
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from tqdm import tqdm

from common.cameras import Cameras
from common.command_line import positive
from common.data.exr import write_exr
from common.errors import UserError, run_command
from common.rendering.orbit import orbit_cameras
from common.rendering.picture import Picture, panels
from common.training.processes import choose_device
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.pictures import contact_sheet, object_condition, render_view

KINDS = ("colour", "normal", "depth", "mask")


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument("--objects", type=positive, default=4, help="how many objects of the split")
    parser.add_argument("--views", type=positive, default=4, help="how many of the data's cameras")
    parser.add_argument("--first-view", type=int, default=0)
    parser.add_argument("--orbit", type=positive, metavar="N", help="N cameras around instead")
    parser.add_argument("--size", type=positive, help="height in pixels; default: the data's")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--format", choices=["png", "gif", "mp4"], default="png")
    parser.add_argument("--float-depth", action="store_true", help="also depth as EXR")
    parser.add_argument("--contact-sheet", action="store_true", help="one picture of many objects")
    parser.add_argument("--checkpoint", choices=["best", "latest"], default="best")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    print(f"run {run.path}")
    model, config, _ = load_run(run, device, arguments.checkpoint)
    objects = Objects(config, config.data.test_split, held_out=True)
    if arguments.contact_sheet:
        path = run.path / "contact_sheet.png"
        imageio.imwrite(path, contact_sheet(model, objects, device))
        print(f"input | predictions and normals | truth: {path}")
        return
    for index in range(min(arguments.objects, len(objects))):
        entry, views = objects.entries[index], objects[index].views
        cameras = choose_cameras(views.cameras, arguments)
        condition = object_condition(model, objects, index, device)
        folder = run.renders / entry.category / entry.name
        pictures = [
            render_view(model, condition, cameras, view)
            for view in tqdm(range(len(cameras)), desc=entry.name, unit="view")
        ]
        save_pictures(folder, pictures, arguments)
    print(f"pictures are in {run.renders}")


def choose_cameras(cameras: Cameras, arguments: argparse.Namespace) -> Cameras:
    """The cameras that the command line asks for."""
    if arguments.orbit:
        cameras = orbit_cameras(cameras, arguments.orbit)
    else:
        last = min(arguments.first_view + arguments.views, len(cameras))
        if not 0 <= arguments.first_view < len(cameras):
            raise UserError(
                f"--first-view {arguments.first_view}: choose one of the {len(cameras)} views, "
                f"0 to {len(cameras) - 1}"
            )
        cameras = cameras[list(range(arguments.first_view, last))]
    if arguments.size:
        width = round(cameras.width * arguments.size / cameras.height)
        cameras = cameras.resized(arguments.size, width)
    return cameras


def save_pictures(folder: Path, pictures: list[Picture], arguments: argparse.Namespace) -> None:
    """Write each kind as numbered PNGs or as one film, and float depth if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    frames: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for picture in pictures:
        colour, normal, depth = panels(picture)
        mask = picture.mask.numpy().astype(np.uint8)[..., None].repeat(3, axis=-1) * 255
        for kind, image in zip(KINDS, (colour, normal, depth, mask), strict=True):
            frames[kind].append(image)
    for kind in arguments.kinds:
        if arguments.format == "png":
            (folder / kind).mkdir(exist_ok=True)
            for number, image in enumerate(frames[kind]):
                imageio.imwrite(folder / kind / f"{number:04d}.png", image)
        else:
            save_film(folder / f"{kind}.{arguments.format}", frames[kind])
    if arguments.float_depth:
        (folder / "float_depth").mkdir(exist_ok=True)
        for number, picture in enumerate(pictures):
            write_exr(folder / "float_depth" / f"{number:04d}.exr", picture.depth.numpy())


def save_film(path: Path, frames: list[np.ndarray]) -> None:
    """Write a GIF or an MP4 at 24 pictures a second."""
    if path.suffix == ".gif":
        imageio.imwrite(path, np.stack(frames), duration=1000 / 24, loop=0)
        return
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise UserError("--format mp4 needs: pip install imageio-ffmpeg (or use gif)") from error
    # Video codecs want even sides.
    even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    imageio.imwrite(path, np.stack(even), fps=24, codec="libx264", plugin="FFMPEG",
                    macro_block_size=2)  # fmt: skip


if __name__ == "__main__":
    run_command(main)
