"""Multi-resolution hash encoding with its derivative, in plain PyTorch (Mueller et al. 2022).

Each level is a grid whose vertices hold learnt features; a point gets the interpolated features of
all levels. Coarse levels store every vertex, fine ones share the rows of a table by a spatial hash.
The derivative by the point comes out beside the encoding, as ordinary tensors: a loss on it (a
normal, the eikonal term) needs one backward pass instead of two.
"""

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

    def fade_in(self, levels: float) -> None:
        """Use the first ``levels`` levels, the last of them in part."""
        index = torch.arange(len(self.level_weight), device=self.level_weight.device)
        self.level_weight.copy_((levels - index).clamp(0, 1))

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N features"]:
        """The encoding alone."""
        cell, within = self._cells(points)
        smooth, _ = _smoothstep(within)
        mixed = self._corners(cell)
        for share in self._shares(smooth):
            mixed = _between(mixed, share)
        mixed = mixed.view(*cell.shape[:2], self.features)
        return (mixed * self.level_weight[:, None]).flatten(1)

    def with_derivative(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N features"], Float[Tensor, "N 3 features"]]:
        """The encoding and its derivative by the three coordinates."""
        cell, within = self._cells(points)
        smooth, slope = _smoothstep(within)
        x, y, z = self._shares(smooth)
        corners = self._corners(cell)
        edges, by_x = _between(corners, x), corners[1] - corners[0]
        sides, by_y = _between(edges, y), edges[1] - edges[0]
        value, by_z = _between(sides, z), sides[1] - sides[0]
        by_x, by_y = _between(_between(by_x, y), z), _between(by_y, z)
        slope = slope * (self.level_weight * self._resolution / 2)[:, None]
        derivative = torch.stack([by_x, by_y, by_z]).view(3, *cell.shape[:2], self.features)
        derivative = derivative * slope.permute(2, 0, 1)[..., None]
        value = value.view(*cell.shape[:2], self.features) * self.level_weight[:, None]
        return value.flatten(1), derivative.flatten(2).transpose(0, 1)

    def _cells(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Int[Tensor, "N levels 3"], Float[Tensor, "N levels 3"]]:
        """The cell of each level that contains a point, and the place within it."""
        scaled = (points.clamp(-1, 1)[:, None] + 1) * (self._resolution[:, None] / 2)
        cell = torch.minimum(scaled.detach().int(), self._resolution[:, None] - 1)
        return cell, scaled - cell

    # Values are mixed one axis after the other, over long blocks of memory: half the time of sums
    # over the eight corners.
    def _corners(self, cell: Int[Tensor, "N levels 3"]) -> Float[Tensor, "2 2 2 M"]:
        """What the table holds for the corners of cells, by their ends along x, y and z."""
        rows = _Rows.apply(self.table, self._row(cell).reshape(-1))
        return rows.view(2, 2, 2, cell[..., 0].numel() * self.features)

    def _shares(self, smooth: Float[Tensor, "N levels 3"]) -> tuple[Float[Tensor, "M"], ...]:
        """Places along x, y and z, once for every feature."""
        each = smooth.permute(2, 0, 1)[..., None].expand(-1, -1, -1, self.features)
        return each.reshape(3, -1).unbind(0)

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


def _between(ends: Float[Tensor, "2 *n M"], share: Float[Tensor, "M"]) -> Float[Tensor, "*n M"]:
    return torch.lerp(ends[0], ends[1], share)


def _smoothstep(t: Float[Tensor, "*n"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """3 t^2 - 2 t^3 and its derivative."""
    return t * t * (3 - 2 * t), 6 * t * (1 - t)
