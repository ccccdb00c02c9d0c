"""Multi-resolution hash encoding with its derivative, in plain PyTorch (Mueller et al. 2022).

Each level is a grid whose vertices hold learnt features; a point gets the interpolated features of
all levels. Coarse levels store every vertex, fine ones share the rows of a table by a spatial hash.
The derivative by the point comes out beside the encoding, as ordinary tensors: a loss on it (a
normal, the eikonal term) needs one backward pass instead of two.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Large primes of the paper's spatial hash (its section 3), the second modulo 2^32 as a signed
# number; the first axis keeps factor 1. 32-bit products wrap around, which is meant.
HASH_FACTORS = (1, 2_654_435_761 - 2**32, 805_459_861)
INITIAL_SPREAD = 1e-4


class _Rows(torch.autograd.Function):
    """table[index], with a backward pass ten times cheaper than indexing's own."""

    @staticmethod
    def forward(ctx, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        return table.index_select(0, index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])
        # On the CPU this is several times faster than index_add_, and more so with 64-bit indices.
        return total.scatter_add_(0, index.long()[:, None].expand_as(gradient), gradient), None


class HashGrid(nn.Module):
    """Features of the points of [-1, 1]^3, ``levels`` * ``features`` of them.

    Resolutions grow geometrically from ``coarsest`` to ``finest`` cells along an axis; a level has
    at most 2^``log2_rows`` rows. Interpolation is trilinear in smoothstepped coordinates, so that
    normals are continuous. ``level_weight`` fades levels in from coarse to fine.
    """

    level_weight: Tensor
    _resolution: Tensor
    _first: Tensor
    _corners: Tensor

    def __init__(
        self, levels: int, features: int, coarsest: int, finest: int, log2_rows: int
    ) -> None:
        super().__init__()
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        resolution = [round(coarsest * growth**level) for level in range(levels)]
        vertices = [(cells + 1) ** 3 for cells in resolution]
        rows = [min(count, 2**log2_rows) for count in vertices]
        first = [sum(rows[:level]) for level in range(levels)]
        hashed = [count > 2**log2_rows for count in vertices]
        self.dense_levels = levels - sum(hashed)
        self.features, self.out_features = features, levels * features
        self.hash_mask = 2**log2_rows - 1
        self.table = nn.Parameter((2 * torch.rand(sum(rows), features) - 1) * INITIAL_SPREAD)
        self.register_buffer("level_weight", torch.ones(levels))
        whole = torch.int32  # half the memory traffic of torch's usual 64 bits
        self.register_buffer("_resolution", torch.tensor(resolution, dtype=whole), persistent=False)
        self.register_buffer("_first", torch.tensor(first, dtype=whole), persistent=False)
        corners = torch.tensor(list(product((0, 1), repeat=3)), dtype=whole)
        self.register_buffer("_corners", corners, persistent=False)

    def fade_in(self, levels: float) -> None:
        """Use the first ``levels`` levels, the last of them in part."""
        index = torch.arange(len(self.level_weight), device=self.level_weight.device)
        self.level_weight.copy_((levels - index).clamp(0, 1))

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N features"]:
        """The encoding alone."""
        cell, within = self._cells(points)
        smooth, _ = _smoothstep(within)
        rows = _Rows.apply(self.table, self._row(cell).reshape(-1))
        mixed = rows.view(2, 2, 2, cell[..., 0].numel() * self.features)
        # One axis after the other, over long blocks of memory: half the time of weighted sums.
        for share in smooth.unbind(-1):
            low, high = mixed
            each = share.reshape(-1, 1).expand(-1, self.features).reshape(-1)
            mixed = torch.lerp(low, high, each)
        mixed = mixed.view(*cell.shape[:2], self.features)
        return (mixed * self.level_weight[:, None]).flatten(1)

    def with_derivative(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N features"], Float[Tensor, "N 3 features"]]:
        """The encoding and its derivative by the three coordinates."""
        cell, within = self._cells(points)
        smooth, slope = _smoothstep(within)
        slope = slope * (self._resolution[:, None] / 2)
        value = torch.stack([1 - smooth, smooth])
        change = torch.stack([-slope, slope])
        ends = self._corners
        x, y, z = (value[ends[:, axis], ..., axis] for axis in range(3))
        dx, dy, dz = (change[ends[:, axis], ..., axis] for axis in range(3))
        weights = torch.stack([x * y * z, dx * y * z, x * dy * z, x * y * dz])
        mixed = self._mix(cell, weights.permute(2, 3, 0, 1))
        mixed = mixed.transpose(1, 2).flatten(2)
        return mixed[:, 0], mixed[:, 1:]

    def _cells(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Int[Tensor, "N levels 3"], Float[Tensor, "N levels 3"]]:
        """The cell of each level that contains a point, and the place within it."""
        scaled = (points.clamp(-1, 1)[:, None] + 1) * (self._resolution[:, None] / 2)
        cell = torch.minimum(scaled.detach().int(), self._resolution[:, None] - 1)
        return cell, scaled - cell

    def _mix(
        self, cell: Int[Tensor, "N levels 3"], weights: Float[Tensor, "N levels K 8"]
    ) -> Float[Tensor, "N levels K features"]:
        """K weighted sums over the corners of each cell."""
        row = self._row(cell).flatten(0, 2).permute(1, 2, 0)
        rows = _Rows.apply(self.table, row.reshape(-1))
        points, levels, sums, _ = weights.shape
        corners = rows.view(points * levels, 8, self.features)
        mixed = torch.bmm(weights.reshape(points * levels, sums, 8), corners)
        return mixed.view(points, levels, sums, self.features) * self.level_weight[:, None, None]

    def _row(self, cell: Int[Tensor, "N levels 3"]) -> Int[Tensor, "2 2 2 N levels"]:
        """The table's row of every corner, by its ends along x, y and z."""
        x, y, z = torch.stack([cell, cell + 1]).unbind(-1)
        x, y, z = x[:, None, None], y[None, :, None], z[None, None]
        dense = self.dense_levels
        side = self._resolution[:dense] + 1
        stored = (x[..., :dense] * side + y[..., :dense]) * side + z[..., :dense]
        one, two, three = HASH_FACTORS
        shared = x[..., dense:] * one ^ y[..., dense:] * two ^ z[..., dense:] * three
        return torch.cat([stored, shared & self.hash_mask], dim=-1) + self._first


def _smoothstep(t: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """3 t^2 - 2 t^3 and its derivative."""
    return t * t * (3 - 2 * t), 6 * t * (1 - t)
