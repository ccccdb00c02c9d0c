"""What the scripts' command lines have in common."""

import argparse
from collections.abc import Sequence

from common.errors import UserError


def run_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every script on a trained run: RUN, checkpoint and device."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    add_loading(parser)
    return parser


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Add which checkpoint to load and the device to work on."""
    parser.add_argument(
        "--checkpoint",
        choices=["best", "latest"],
        default="best",
        help="best (default): by training.select_by, else the latest",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def refuse_options(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """UserError naming those of these options that were given, and ``why`` they cannot be.

    An option counts as given where its value is neither None nor False.
    """
    values = {name: getattr(arguments, name) for name in names}
    given = [name for name, value in values.items() if value is not None and value is not False]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UserError(f"{options}: {why}")


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse's ``type``."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return number
