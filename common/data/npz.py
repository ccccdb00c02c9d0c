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

    _archive: np.lib.npyio.NpzFile
    _zip: zipfile.ZipFile
    size: int  # bytes of all of them, unpacked

    @property
    def files(self) -> list[str]:
        """Their names."""
        return self._archive.files

    def __contains__(self, name: str) -> bool:
        return name in self._archive

    def __getitem__(self, name: str) -> np.ndarray:
        """One array; ValueError where the member is none or shorter than the array claims."""
        if name in self._archive.files:
            members = self._zip.namelist()
            member = name if name in members else f"{name}.npy"
            with self._zip.open(member) as file:
                read_header = _HEADERS.get(np.lib.format.read_magic(file))
                if read_header is None:
                    raise ValueError(f"{name!r:.80}: an array of an unknown version")
                shape, _, dtype = read_header(file)
            if math.prod(shape) * dtype.itemsize > self._zip.getinfo(member).file_size:
                raise ValueError(f"{name!r:.80}: an array longer than its file")
        return self._archive[name]


@contextmanager
def open_npz(path: Path) -> Iterator[PlainArrays]:
    """The archive, for a body that only reads arrays from it.

    Raises UserError where the file or a key is missing, where it is no archive, is damaged, or
    holds pickled objects, or claims to hold far more than its size.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile) or archive.zip is None:
            raise ValueError("a single array, not an archive")
        with archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            if size > max(RATIO * path.stat().st_size, ROOM_OF_ANY):
                raise ValueError(f"would unpack to {size:,} bytes, over {RATIO} times its own size")
            yield PlainArrays(archive, archive.zip, size)
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
