"""Types of command-line arguments."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse's ``type``."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return number
