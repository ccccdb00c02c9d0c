"""Every kind of .glb read by another program and, where it is there, by Khronos' validator."""

import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from common.meshes.gltf import glb_bytes, pack_glb, unpack_glb
from common.pages.glb import GLTF_FROM_PAGE, placed_glb
from tests.test_assets import ball, painted

# Prints the validator's counts of errors and warnings of the file on standard input.
VALIDATE = """
const { validateBytes } = require("gltf-validator");
const bytes = new Uint8Array(require("fs").readFileSync(0));
validateBytes(bytes).then(({ issues }) => console.log(JSON.stringify(issues)));
"""
RED = np.tile(np.uint8([200, 30, 40]), (len(ball().vertices), 1))
LIGHT = np.ones((4, 8, 3), np.float32)
KINDS = {
    "clay": lambda: ball(),
    "without normals": lambda: replace(ball(), normals=None),
    "coloured": lambda: replace(ball(), colours=RED),
    "large": lambda: ball(7),  # numbers of more than 16 bits
    "textured": lambda: painted(64),
    "with normal map": lambda: painted(64, normal_map=True),
    "glossy": lambda: replace(painted(64, normal_map=True), environment=LIGHT),
}


@pytest.fixture(scope="module", params=KINDS)
def shown(request):
    return KINDS[request.param]()


def test_another_reader_finds_the_same_mesh(shown) -> None:
    mesh = getattr(shown, "mesh", shown)
    read = trimesh.load_mesh(io.BytesIO(glb_bytes(shown)), "glb", process=False)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-6)
    assert np.array_equal(read.faces, mesh.faces)
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert (read.vertex_normals * outward).sum(axis=1).min() > 0.99


def test_khronos_validator_has_nothing_to_say(shown) -> None:
    for content in (glb_bytes(shown), placed_glb(glb_bytes(shown), GLTF_FROM_PAGE)):
        issues = validated(content)
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_khronos_validator_would_complain() -> None:
    document, binary = unpack_glb(glb_bytes(ball()))
    document["accessors"][0]["max"][0] += 1
    assert validated(pack_glb(document, binary))["numErrors"] == 1


def validated(content: bytes) -> dict:
    """What the validator says; skips the test where node does not find its package."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run([node, "-e", VALIDATE], input=content, capture_output=True)
    if b"Cannot find module 'gltf-validator'" in done.stderr:
        pytest.skip("node's package gltf-validator is not installed")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
