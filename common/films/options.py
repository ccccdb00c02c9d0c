"""The options of the scripts that draw films."""

import argparse

from common.cameras import Cameras
from common.command_line import positive
from common.films.film import FORMATS, KINDS, Film, Kind
from common.rendering.camera_path import PATHS, PathKind, camera_path

FRAMES = 120


def add_film_options(
    parser: argparse.ArgumentParser, kinds: tuple[Kind, ...], film_format: str
) -> None:
    """Add what is drawn, how large, and how it is written; these are the defaults."""
    parser.add_argument("--path", choices=PATHS, help="closed path of the cameras")
    parser.add_argument("--frames", type=positive, help=f"cameras on the path ({FRAMES})")
    parser.add_argument("--size", type=positive, help="height in pixels; default: the data's")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--kinds", nargs="+", choices=KINDS, default=list(kinds))
    shown.add_argument(
        "--beside", type=_kinds, metavar="KIND,KIND,...", help="these side by side, in one film"
    )
    parser.add_argument("--format", choices=FORMATS, default=film_format)
    parser.add_argument("--per-second", type=positive, metavar="N", help="frames of a film (25)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def film_of(arguments: argparse.Namespace, series: str, per_second: int = Film.per_second) -> Film:
    """The film that the command line asks for; ``per_second`` where it does not say.

    Its name begins with what kind of ``series`` it is, if that is not empty.
    """
    return Film(
        format=arguments.format,
        kinds=arguments.beside or tuple(arguments.kinds),
        beside=arguments.beside is not None,
        per_second=arguments.per_second or per_second,
        prefix=f"{series}_" if series else "",
    )


def along_path(arguments: argparse.Namespace, kind: PathKind, cameras: Cameras) -> Cameras:
    """Cameras on a path, in the size that the command line asks for."""
    return sized(arguments, camera_path(kind, cameras, arguments.frames or FRAMES))


def sized(arguments: argparse.Namespace, cameras: Cameras) -> Cameras:
    """The same cameras with pictures of the height that the command line asks for, if it does."""
    if arguments.size is None:
        return cameras
    width = max(1, round(cameras.width * arguments.size / cameras.height))
    return cameras.resized(arguments.size, width)


def _kinds(text: str) -> tuple[Kind, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in KINDS]
    if unknown or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"expected different ones of {','.join(KINDS)} with commas between, got '{text}'"
        )
    return names  # type: ignore[return-value]  # each has just been found in KINDS
