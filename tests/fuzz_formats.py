"""Bytes to damage: small files of every format, and containers made whole again around damage.

A check sum would end the reading of nearly every damaged file at its first look; with the sums
corrected the damage gets as far as an attacker's would.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

PICTURES = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MESHES = (".ply", ".obj", ".glb", ".off", ".stl")


def zip_bytes(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with right check sums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    """What is in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy_bytes(array: np.ndarray) -> bytes:
    """One array, as it lies in an npz archive."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def saved_bytes(content: object, legacy: bool = False) -> bytes:
    """What torch.save makes of it."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def checkpoint_state() -> dict:
    """A run's checkpoint with little in it."""
    weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()
    optimiser.step()
    model = {"weight": weight.detach(), "count": torch.tensor(3)}
    state = {"model": model, "optimiser": optimiser.state_dict(), "step": 4, "seconds": 1.5}
    return state | {"best": None, "watch": {"strikes": [1, 2], "slower": 0.5}}


def picture_bytes(kind: str, mode: str = "RGB") -> bytes:
    """A picture of twelve by nine pixels of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, kind)
    return file.getvalue()


def with_right_sums(png: bytes) -> bytes:
    """A PNG whose chunks' check sums are right."""
    result, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        content = png[at + 4 : at + 8 + length]
        result += png[at : at + 4] + content + struct.pack(">I", zlib.crc32(content))
        at += 12 + length
    return bytes(result + png[at:])


def mesh_bytes(suffix: str) -> list[bytes]:
    """A box in this format: plain, coloured, textured, binary and as text, as it has them."""
    box = trimesh.creation.box()
    if suffix == ".stl":
        return [box.export(file_type="stl"), box.export(file_type="stl_ascii").encode()]
    coloured = trimesh.Trimesh(box.vertices, box.faces, vertex_colors=_shades(), process=False)
    if suffix == ".ply":
        kinds = [box.export(file_type="ply", encoding=kind) for kind in ("binary", "ascii")]
        return [*kinds, coloured.export(file_type="ply")]
    if suffix == ".glb":
        return [coloured.export(file_type="glb"), textured_box().export(file_type="glb")]
    return [_bytes(mesh.export(file_type=suffix[1:])) for mesh in (box, coloured)]


def textured_box() -> trimesh.Trimesh:
    """A box with a picture on it."""
    box = trimesh.creation.box()
    texture = Image.open(io.BytesIO(picture_bytes("PNG")))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture)
    box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2], material=material)
    return box


def _shades() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 4), np.uint8)


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def tar_bytes(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar archive, packed as the mode says."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def with_right_headers(tar: bytes) -> bytes:
    """A tar archive where whatever looks like a member's header has the right check sum."""
    data = bytearray(tar)
    for start in range(0, len(data) - 511, 512):
        block = data[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(data)


def written_by(write, suffix: str, folder: Path) -> bytes:
    """The bytes that a writer of files leaves in one."""
    path = folder / f"written{suffix}"
    write(path)
    return path.read_bytes()
