"""Small matrices are multiplied exactly, whatever precision networks are allowed."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from common.cameras import Cameras, look_at
from common.small_matrices import product
from idr.camera_refinement import CameraRefinement


@pytest.mark.parametrize(
    "left, right", [((3, 3), (5, 3, 3)), ((5, 7, 3), (5, 3, 3)), ((4, 2, 1, 3), (2, 3, 6))]
)
def test_the_product_is_that_of_matrices(left, right) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(s, generator=generator).double() for s in (left, right))
    torch.testing.assert_close(product(first, second), first @ second, atol=1e-14, rtol=0)


class Products(TorchDispatchMode):
    """Records the operations that a lower precision would round."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        if operation.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm", "dot", "mv"):
            self.names.append(str(operation))
        return operation(*arguments, **(keywords or {}))


def test_no_camera_is_rounded() -> None:
    """Rays, projections, learnt poses and all their gradients."""
    centre = torch.tensor([[0.0, 0, 3], [2, 1, 2]])
    pose = look_at(centre, torch.zeros(2, 3), torch.tensor([0.0, 1, 0]))
    intrinsics = torch.tensor([[900.0, 0, 800], [0, 900, 600], [0, 0, 1]]).repeat(2, 1, 1)
    with Products() as seen:
        assert (torch.ones(3, 3) @ torch.ones(3, 3)).sum() == 27 and len(seen.names) == 1
        refined = CameraRefinement(Cameras(intrinsics, pose, 1200, 1600), focal=False)
        cameras = refined().resized(600, 800)
        rays = cameras.rays(torch.tensor([0, 1]), torch.tensor([[3.0, 5], [700, 20]]))
        pixel, z = cameras.project(rays.at(torch.tensor([2.0, 3.0])))
        (pixel.sum() + z.sum() + rays.direction.sum()).backward()
    assert len(seen.names) == 1
    assert all(parameter.grad.isfinite().all() for parameter in refined.parameters())
