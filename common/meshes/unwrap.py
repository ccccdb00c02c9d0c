"""A flat place in a texture for every face of a mesh."""

from dataclasses import replace

import numpy as np
import xatlas
from jaxtyping import Float

from common.meshes.mesh import Mesh, area_vectors

PADDING = 4  # texels between charts, so that filtering near a border does not reach the next
# A chart has at most this share of the surface. Unbounded ones take xatlas a minute to flatten
# where a mesh has 100,000 faces, and are as many.
LARGEST_CHART = 1 / 30


def unwrap(mesh: Mesh, size: int) -> tuple[Mesh, Float[np.ndarray, "V 2"]]:
    """The mesh with vertices doubled where it is cut open, and texture coordinates for them.

    Coordinates (u, v) are in [0, 1] from the texture's upper left corner, as in glTF; charts do
    not overlap, and are packed for a texture of about ``size`` x ``size``. The charts are xatlas's
    (after Levy et al. 2002).
    """
    # Scaled, so that the library's tolerances mean the same for every object.
    vertices = mesh.vertices - mesh.vertices.min(axis=0)
    scaled = Mesh(vertices / vertices.max(), mesh.faces)
    atlas = xatlas.Atlas()
    atlas.add_mesh(scaled.vertices.astype(np.float32), scaled.faces.astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_chart_area = LARGEST_CHART * np.linalg.norm(area_vectors(scaled), axis=1).sum()
    packing.resolution, packing.padding = size, PADDING
    atlas.generate(charts, packing)
    source, faces, uv = atlas[0]
    split = replace(
        mesh,
        vertices=mesh.vertices[source],
        faces=faces.astype(np.int64),
        colours=None if mesh.colours is None else mesh.colours[source],
        normals=None if mesh.normals is None else mesh.normals[source],
    )
    return split, uv.astype(np.float64)
