"""Make a scene that both methods train on from whatever photographs there are, and check it.

    python scripts/prepare_scene.py SOURCE OUT [options]

SOURCE is a folder of photographs with cameras (IDR or NeuS, DVR's DTU, transforms.json of NeRF,
nerfstudio or instant-ngp, COLMAP, Middlebury, MVSNet or BlendedMVS, 3x4 projection matrices), or
photographs or a video alone, whose cameras COLMAP then finds. OUT becomes a scene folder with a
report to look at, OUT/report.html: do the cameras fit the masks? If another reading of the same
cameras fits clearly better, the option that mends it is named and no scene is written.

    python scripts/prepare_scene.py ~/photographs/shoe data/shoe --shorter-side 480
    python scripts/prepare_scene.py shoe.mp4 data/shoe --frames 40 --masks light
    python scripts/prepare_scene.py colmap_project data/shoe --json
    python scripts/train.py configs/idr_DTU.yaml data.path=data/shoe
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from common.command_line import positive
from common.errors import UserError, run_command
from common.scenes.checks.corrections import CORRECTIONS, Correction
from common.scenes.preparation import FRAMES, Preparation, Prepared, prepare
from common.scenes.sources import FORMATS


def main() -> None:
    """Parse the command line, prepare, and say what came of it."""
    arguments = _parser().parse_args()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        prepared = _prepare(arguments)
    if arguments.json:
        outcome = {"source": arguments.source, "out": arguments.out, "report": prepared.report}
        words = {name: str(path) for name, path in outcome.items()}
        print(json.dumps(words | {"verdict": prepared.verdict}, indent=2))


def _prepare(arguments: argparse.Namespace) -> Prepared:
    """Make the scene; UserError where its cameras look wrong and it was not accepted."""
    wanted = Preparation(
        format=arguments.format,
        corrections={
            correction.option: value
            for correction in CORRECTIONS
            if (value := getattr(arguments, _name(correction))) not in (None, False)
        },
        every=arguments.every,
        frames=arguments.frames,
        masks=arguments.masks,
        mask_folder=arguments.mask_folder,
        box=arguments.box and tuple(arguments.box),
        invert_masks=arguments.invert_masks,
        normalise=arguments.normalise,
        shorter_side=arguments.shorter_side,
        crop=arguments.crop,
        exports=tuple(arguments.export),
        accept=arguments.accept,
    )
    prepared = prepare(arguments.source, arguments.out, wanted, print)
    print(f"report: {prepared.report}")
    if not prepared.written:
        raise UserError(f"{arguments.source}: {prepared.verdict}; or --accept the scene as it is")
    print(prepared.verdict)
    print(f"train:  python scripts/train.py configs/idr_DTU.yaml data.path={arguments.out}")
    return prepared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="photographs, with cameras or alone; a video")
    add("out", metavar="OUT", type=Path, help="the scene folder to make")
    add("--format", choices=[known.name for known in FORMATS], help="of SOURCE (detected)")
    add("--every", type=positive, default=1, metavar="N", help="take every Nth photograph (1)")
    add(
        "--frames",
        type=positive,
        default=FRAMES,
        metavar="N",
        help=f"sharp frames to take from a video ({FRAMES})",
    )
    add(
        "--masks",
        choices=("auto", "files", "alpha", "light", "dark", "box", "points", "none"),
        default="auto",
        help="where the object is: mask files, the pictures' opacity, what stands out from a light "
        "or dark background, GrabCut in --box or from sparse points, everywhere (what is there)",
    )
    add("--mask-folder", type=Path, metavar="DIR", help="mask files, named like the images")
    add("--box", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="of --masks box, pixels")
    add("--invert-masks", action="store_true", help="masks are black on the object")
    add(
        "--normalise",
        choices=("auto", "given", "masks", "points", "cameras"),
        default="auto",
        help="the object's sphere: SOURCE's own, around the masks' visual hull, around sparse "
        "points, or what all pictures show whole (the first that can be had)",
    )
    add("--shorter-side", type=positive, metavar="PIXELS", help="shrink the pictures to this")
    add("--crop", action="store_true", help="cut the pictures to the object")
    add(
        "--export",
        nargs="+",
        choices=("transforms", "colmap", "middlebury"),
        default=(),
        help="write the cameras in these formats too",
    )
    add("--accept", action="store_true", help="write the scene although the cameras look wrong")
    add("--json", action="store_true", help="print the outcome as JSON")
    corrections = parser.add_argument_group("mend cameras, as the report advises")
    for correction in CORRECTIONS:
        _add_correction(corrections, correction)
    return parser


def _add_correction(group: argparse._ArgumentGroup, correction: Correction) -> None:
    text = correction.explanation.replace("{value:+g}", "so many").replace("{value:g}", "this")
    text = text.replace(" ({value})", "")
    if not correction.values:
        group.add_argument(correction.option, action="store_true", help=text)
    elif isinstance(correction.values[0], str):
        group.add_argument(correction.option, choices=correction.values, help=text)
    else:
        group.add_argument(correction.option, type=float, metavar="N", help=text)


def _name(correction: Correction) -> str:
    return correction.option.lstrip("-").replace("-", "_")


if __name__ == "__main__":
    run_command(main)
