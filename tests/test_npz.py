"""Archives as NumPy writes them come back as NumPy reads them."""

import numpy as np
import pytest

from common.data.npz import open_npz
from common.errors import UserError

ARRAYS = {
    "matrix": np.arange(12.0).reshape(3, 4),
    "by column": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "number": np.float32(2.5),
    "nothing": np.zeros((0, 3), dtype=np.float64),
    "words": np.array(["a", "bcd"]),
    "big endian": np.arange(3, dtype=">i4"),
    "bits": np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_numpys(tmp_path, save) -> None:
    path = tmp_path / "a.npz"
    save(path, **ARRAYS)
    with np.load(path) as expected, open_npz(path) as archive:
        assert archive.files == expected.files == list(ARRAYS)
        for name in expected.files:
            assert name in archive
            np.testing.assert_array_equal(archive[name], expected[name], strict=True)
            assert archive[name].flags.writeable


def test_what_is_not_there_is_named(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros(3))
    with pytest.raises(UserError, match=r"a\.npz: .*normals"), open_npz(tmp_path / "a.npz") as a:
        assert "normals" not in a
        a["normals"]


def test_a_single_array_is_no_archive(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="not a readable npz"), open_npz(tmp_path / "a.npy"):
        pass


def test_negative_sizes_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros((3, 2)))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"(3, 2)", b"(-3,2)"))
    with pytest.raises(UserError, match="not a readable npz"), open_npz(tmp_path / "a.npz") as a:
        a["points"]
