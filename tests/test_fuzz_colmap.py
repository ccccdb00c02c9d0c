"""Damaged COLMAP models end in a sentence, whatever the damage; and the fuzzer finds what fails."""

import random
import sys

import pytest

from common.errors import UserError
from tests.fuzz_targets import TARGETS
from tests.fuzzing import Crash, fuzz

THIS = [sys.modules[__name__]]
DOOR = range(176, 186)
NAMES = ("cameras", "images", "points3D")


@pytest.mark.parametrize(
    "name", [f"{name}{suffix}" for suffix in (".bin", ".txt") for name in NAMES]
)
def test_damaged_files_end_in_a_sentence(tmp_path, name):
    target = TARGETS[f"colmap/{name}"](tmp_path)
    result = fuzz(target.read, target.seeds, target.modules, random.Random(0), inputs=150)
    # Nearly all damage is seen, some makes another valid model, and some led to new lines.
    assert 75 < result.refused < 150 and result.kept > 2


def behind_five_doors(data: bytes) -> None:
    if len(data) < 5 or data[0] not in DOOR:
        raise UserError("the first is shut")
    if data[1] not in DOOR:
        raise UserError("the second is shut")
    if data[2] not in DOOR:
        raise UserError("the third is shut")
    if data[3] not in DOOR:
        raise UserError("the fourth is shut")
    if data[4] not in DOOR:
        raise UserError("the fifth is shut")
    raise IndexError("found")


def test_what_opens_a_door_is_kept():
    """All five open at once to one of 10^7 random inputs, one after the other to thousands."""
    with pytest.raises(Crash, match="IndexError: found, for b'") as caught:
        fuzz(behind_five_doors, [b"00000"], THIS, random.Random(0), inputs=20_000)
    assert isinstance(caught.value.__cause__, IndexError)
    # Without looking at the lines it does not get there.
    blind = fuzz(behind_five_doors, [b"00000"], [], random.Random(0), inputs=20_000)
    assert blind.refused == 20_000 and blind.kept == 1


def test_a_reader_that_hangs_is_stopped():
    def hangs(data: bytes) -> None:
        while data:
            pass

    with pytest.raises(Crash, match="more than 1000000 lines"):
        fuzz(hangs, [b"1"], THIS, random.Random(0), inputs=1)


def test_a_message_of_several_lines_is_a_failure():
    def speaks(data: bytes) -> None:
        raise UserError("one\ntwo")

    with pytest.raises(Crash, match="a message of several lines"):
        fuzz(speaks, [b"1"], THIS, random.Random(0), inputs=1)


def test_the_same_seed_gives_the_same_run():
    def reads(data: bytes) -> None:
        if len(data) % 3 == 0:
            raise UserError("thirds")

    first, again, other = (
        fuzz(reads, [b"12"], THIS, random.Random(seed), inputs=500) for seed in (1, 1, 2)
    )
    assert first == again != other and first.inputs == 500
