"""The mesh file of a name, whatever format it was written in."""

from pathlib import Path

from common.meshes.files import SUFFIXES


def find_mesh(path: Path) -> Path:
    """The newest file beside ``path`` of its name and any supported format; else ``path`` itself.

    Of files of one age that with ``path``'s own suffix comes first.
    """
    suffixes = dict.fromkeys([path.suffix, *SUFFIXES])
    # The name may hold a dot of its own, so the suffix is cut off by length.
    stem = path.name.removesuffix(path.suffix)
    found = [file for suffix in suffixes if (file := path.with_name(stem + suffix)).is_file()]
    return max(found, key=lambda file: file.stat().st_mtime, default=path)
