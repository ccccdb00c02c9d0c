"""The mesh files of a name, whatever format they were written in."""

from pathlib import Path

from common.errors import naming
from common.meshes.files import SUFFIXES, TEXTURED_SUFFIXES
from common.meshes.gltf import has_texture


def find_mesh(path: Path) -> Path:
    """The newest file beside ``path`` of its name and any supported format; else ``path`` itself.

    Of files of one age that with ``path``'s own suffix comes first.
    """
    return max(_files(path, [path.suffix, *SUFFIXES]), key=_age, default=path)


def find_textured(path: Path) -> Path | None:
    """The newest file beside ``path`` of its name that carries a texture, if there is one.

    Raises UserError where a .glb of that name is damaged.
    """
    return max(filter(_textured, _files(path, list(TEXTURED_SUFFIXES))), key=_age, default=None)


def _files(path: Path, suffixes: list[str]) -> list[Path]:
    # The name may hold a dot of its own, so the suffix is cut off by length.
    stem = path.name.removesuffix(path.suffix)
    beside = [path.with_name(stem + suffix) for suffix in dict.fromkeys(suffixes)]
    return [file for file in beside if file.is_file()]


def _age(file: Path) -> float:
    return file.stat().st_mtime


def _textured(file: Path) -> bool:
    if file.suffix == ".glb":
        with naming(file):
            return has_texture(file.read_bytes())
    with file.open("rb") as text:  # ours name their material first
        return text.read(6) == b"mtllib"
