"""NumPy archives from outside: opened without pickle, every defect one sentence.

Nothing is believed of sizes: neither an archive that unpacks to far more than its own size, nor an
array that claims to be longer than the member that holds it.
"""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError

# All that zipfile, zlib and NumPy's header parser raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    NotImplementedError,
    ValueError,
    EOFError,
    OSError,
    MemoryError,
    RuntimeError,  # an encrypted member
)


RATIO = 100  # how many times its size an honest archive unpacks to,
ROOM_OF_ANY = 256 << 20  # if not to fewer bytes than this
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class PlainArrays:
    """The arrays of an archive by name, each read when it is asked for."""

    _zip: zipfile.ZipFile
    size: int  # bytes of all of them, unpacked

    @property
    def files(self) -> list[str]:
        """Their names."""
        return [member.removesuffix(".npy") for member in self._zip.namelist()]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def __getitem__(self, name: str) -> np.ndarray:
        """One array; KeyError where there is none, ValueError for all that is no plain array.

        NumPy's own reader believes the header's sizes, and opens a member twice.
        """
        if name not in self:
            raise KeyError(f"{name} is not a file in the archive")
        members = self._zip.namelist()
        with self._zip.open(name if name in members else f"{name}.npy") as file:
            read_header = _HEADERS.get(np.lib.format.read_magic(file))
            if read_header is None:
                raise ValueError(f"{name!r:.80}: an array of an unknown version")
            shape, by_column, dtype = read_header(file)
            if dtype.hasobject:
                raise ValueError(f"{name!r:.80}: pickled objects, which are not read")
            values = file.read()
        if math.prod(shape) * dtype.itemsize > len(values):
            raise ValueError(f"{name!r:.80}: an array longer than its file")
        return np.ndarray(shape, dtype, bytearray(values), order="F" if by_column else "C")


@contextmanager
def open_npz(path: Path) -> Iterator[PlainArrays]:
    """The archive, for a body that only reads arrays from it.

    Raises UserError where the file or a key is missing, where it is no archive, is damaged, or
    holds pickled objects, or claims to hold far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > max(RATIO * path.stat().st_size, ROOM_OF_ANY):
                raise ValueError(f"would unpack to {size:,} bytes, over {RATIO} times its own size")
            yield PlainArrays(archive, size)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path or make it") from error
    except KeyError as error:
        raise UserError(f"{path}: {_missing_key(error)}; add it or make the file again") from error
    except _DAMAGE as error:
        raise UserError(
            f"{path}: not a readable npz archive of plain arrays "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "copy or make it again with numpy.savez"
        ) from error


def _missing_key(error: KeyError) -> str:
    return str(error.args[0]) if error.args else "a key is missing"
