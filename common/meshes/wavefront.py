"""A textured mesh as Wavefront text: an .obj and the .mtl that names its pictures."""

import numpy as np

from common.meshes.textured import TexturedMesh

MATERIAL = "surface"


def object_text(textured: TexturedMesh, material_file: str, digits: int) -> str:
    """The content of the .obj; v grows upwards there, numbers have ``digits`` after the point."""
    mesh = textured.mesh
    blocks = [
        f"mtllib {material_file}",
        _lines("v", mesh.vertices, digits),
        _lines("vt", textured.uv * [1, -1] + [0, 1], digits),
    ]
    corner = "{0}/{0}"
    if mesh.normals is not None:
        blocks.append(_lines("vn", mesh.normals, digits))
        corner = "{0}/{0}/{0}"
    # A vertex's position, texture coordinates and normal share one number, counted from one.
    names = [corner.format(index) for index in range(1, len(mesh.vertices) + 1)]
    faces = [f"f {names[a]} {names[b]} {names[c]}" for a, b, c in mesh.faces.tolist()]
    return "\n".join([*blocks, f"usemtl {MATERIAL}", *faces]) + "\n"


def material_text(texture: str, normal_map: str | None) -> str:
    """The content of the .mtl: the texture as it is, unlit, or lit where there is a normal map."""
    lines = [f"newmtl {MATERIAL}", "Kd 1 1 1", f"map_Kd {texture}"]
    if normal_map is None:
        lines.append("illum 0")
    else:
        lines += ["illum 1", f"norm {normal_map}"]
    return "\n".join(lines) + "\n"


def _lines(keyword: str, values: np.ndarray, digits: int) -> str:
    row = " ".join([keyword] + [f"%.{digits}f"] * values.shape[1])
    return "\n".join(row % tuple(value) for value in values.tolist())
