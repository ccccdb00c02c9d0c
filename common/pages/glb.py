"""How a binary glTF stands on a page."""

import numpy as np
from jaxtyping import Float

from common.errors import UserError
from common.meshes.gltf import pack_glb, unpack_glb

# glTF has y up and looks along -z; the pages' frame has z up.
GLTF_FROM_PAGE = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def placed_glb(content: bytes, matrix: Float[np.ndarray, "4 4"]) -> bytes:
    """The same scene moved by a matrix as a whole; UserError where it is no binary glTF 2."""
    document, binary = unpack_glb(content)
    scenes, nodes = document.get("scenes"), document.setdefault("nodes", [])
    if not scenes or not isinstance(nodes, list):
        raise UserError("the GLB file has no scene; write it again")
    scene = scenes[document.get("scene", 0)]
    nodes.append({"children": scene.get("nodes", []), "matrix": matrix.T.flatten().tolist()})
    scene["nodes"] = [len(nodes) - 1]
    return pack_glb(document, binary)
