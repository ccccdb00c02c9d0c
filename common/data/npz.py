"""NumPy archives from outside: opened without pickle, every defect one sentence."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The archive, for a body that only reads arrays from it.

    Raises UserError where the file or a key is missing, where it is no archive, is damaged, or
    holds pickled objects.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an archive")
        with archive:
            yield archive
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
