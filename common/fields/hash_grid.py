"""Multi-resolution hash encoding with its derivative, in plain PyTorch (Mueller et al. 2022).

Each level is a grid whose vertices hold learnt features; a point gets the interpolated features of
all levels. Coarse levels store every vertex, fine ones share the rows of a table by a spatial hash.
The derivative by the point comes out beside the encoding, as ordinary tensors: a loss on it (a
normal, the eikonal term) needs one backward pass instead of two.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# A vertex is in row x + a y + b z of its level, modulo the rows of a level that shares them. A sum
# serves dense and shared levels alike, where the paper's exclusive or of primes (its section 3)
# takes twice the operations. Vertices that share a row form a lattice: with these factors, for all
# of 2^8 to 2^22 rows, its shortest vector has at least 0.76 of the length that is possible.
HASH_FACTORS = (1, 4_070_523, 2_212_173)
INITIAL_SPREAD = 1e-4
# Rows of so many bytes are read as single numbers of these types: twice as fast.
WORDS = {8: torch.int64, 16: torch.complex128}


class _Rows(torch.autograd.Function):
    """table[index], with a backward pass ten times cheaper than indexing's own."""

    @staticmethod
    def forward(ctx, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        word = WORDS.get(table.element_size() * table.shape[1])
        if word is None:
            return table.index_select(0, index)
        return table.view(word)[:, 0].index_select(0, index)[:, None].view(table.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])
        # On the CPU this is several times faster than index_add_, and more so with 64-bit indices.
        sums, terms = _in_pairs(total), _in_pairs(gradient)
        sums.scatter_add_(0, index.long()[:, None].expand_as(terms), terms)
        return total, None


def _in_pairs(rows: Float[Tensor, "N features"]) -> Tensor:
    """Two features as one complex number, where they are even: half as many are to be added."""
    if rows.shape[1] % 2:
        return rows
    return torch.view_as_complex(rows.contiguous().unflatten(1, (-1, 2)))


class HashGrid(nn.Module):
    """Features of the points of [-1, 1]^3, ``levels`` * ``features`` of them.

    Resolutions grow geometrically from ``coarsest`` to ``finest`` cells along an axis; a level has
    at most 2^``log2_rows`` rows. Interpolation is trilinear in smoothstepped coordinates, so that
    normals are continuous. ``level_weight`` fades levels in from coarse to fine.
    """

    level_weight: Tensor
    factor: Tensor
    corner: Tensor
    _half: Tensor
    _last: Tensor
    _mask: Tensor
    _first: Tensor

    def __init__(
        self, levels: int, features: int, coarsest: int, finest: int, log2_rows: int
    ) -> None:
        super().__init__()
        self.features, self.out_features = features, levels * features
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        cells = torch.tensor([round(coarsest * growth**level) for level in range(levels)])
        side = cells + 1
        shared = side**3 > 2**log2_rows
        rows = (side**3).clamp(max=2**log2_rows)
        dense = torch.stack([torch.ones_like(side), side, side**2], dim=1)
        factor = torch.where(shared[:, None], torch.tensor(HASH_FACTORS), dense)
        corner = torch.cartesian_prod(*[torch.arange(2)] * 3) @ factor.T
        # 32 bits halve the memory traffic; products wrap around, which no remainder by 2^n minds.
        whole = torch.int32
        self.table = nn.Parameter((2 * torch.rand(int(rows.sum()), features) - 1) * INITIAL_SPREAD)
        self.register_buffer("level_weight", torch.ones(levels))
        # A learnt table means nothing without the order of its rows: it is saved with it.
        self.register_buffer("factor", factor.T[:, None].to(whole))
        self.register_buffer("corner", corner.view(2, 2, 2, 1, levels).to(whole))
        self.register_buffer("_half", cells / 2, persistent=False)
        self.register_buffer("_last", (cells - 1).to(whole), persistent=False)
        mask = torch.where(shared, 2**log2_rows - 1, -1)
        self.register_buffer("_mask", mask.to(whole), persistent=False)
        self.register_buffer("_first", (rows.cumsum(0) - rows).to(whole), persistent=False)

    def fade_in(self, levels: float) -> None:
        """Use the first ``levels`` levels, the last of them in part."""
        index = torch.arange(len(self.level_weight), device=self.level_weight.device)
        self.level_weight.copy_((levels - index).clamp(0, 1))

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N features"]:
        """The encoding alone."""
        cell, within = self._cells(points)
        mixed = self._corners(cell)
        for share in self._shares(_smoothstep(within)):
            mixed = _between(mixed, share)
        return mixed.view(len(points), self.out_features) * self._weight()

    def with_derivative(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N features"], Float[Tensor, "N 3 features"]]:
        """The encoding and its derivative by the three coordinates."""
        cell, within = self._cells(points)
        x, y, z = self._shares(_smoothstep(within))
        corners = self._corners(cell)
        edges, by_x = _mixed(corners, x)
        sides, by_y = _mixed(edges, y)
        value, by_z = _mixed(sides, z)
        by_x, by_y = _between(_between(by_x, y), z), _between(by_y, z)
        slopes = self._shares(6 * within * (1 - within) * (self.level_weight * self._half))
        changes = zip((by_x, by_y, by_z), slopes, strict=True)
        derivative = torch.stack([change * slope for change, slope in changes])
        shape = len(points), self.out_features
        return value.view(shape) * self._weight(), derivative.view(3, *shape).transpose(0, 1)

    def _weight(self) -> Float[Tensor, "features"]:
        """The levels' weights, once for every feature."""
        return self.level_weight[:, None].expand(-1, self.features).reshape(-1)

    def _cells(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Int[Tensor, "3 N levels"], Float[Tensor, "3 N levels"]]:
        """The cell of each level that contains a point, and the place within it."""
        scaled = (points.clamp(-1, 1).T[..., None] + 1) * self._half
        cell = torch.minimum(scaled.detach().int(), self._last)
        return cell, scaled - cell

    # Values are mixed one axis after the other, over long blocks of memory: half the time of sums
    # over the eight corners.
    def _corners(self, cell: Int[Tensor, "3 N levels"]) -> Float[Tensor, "2 2 2 M"]:
        """What the table holds for the corners of cells, by their ends along x, y and z."""
        held = _Rows.apply(self.table, self._row(cell).view(-1))
        return held.view(2, 2, 2, cell[0].numel() * self.features)

    def _row(self, cell: Int[Tensor, "3 N levels"]) -> Int[Tensor, "2 2 2 N levels"]:
        """The table's row of every corner, by its ends along x, y and z."""
        lowest = (cell * self.factor).sum(dim=0, dtype=cell.dtype)
        return (lowest + self.corner & self._mask) + self._first

    def _shares(self, smooth: Float[Tensor, "3 N levels"]) -> tuple[Float[Tensor, "M"], ...]:
        """Places along x, y and z, once for every feature."""
        return smooth[..., None].expand(-1, -1, -1, self.features).reshape(3, -1).unbind(0)


def _between(ends: Float[Tensor, "2 *n M"], share: Float[Tensor, "M"]) -> Float[Tensor, "*n M"]:
    near, far = ends.unbind(0)
    return torch.lerp(near, far, share)


def _mixed(
    ends: Float[Tensor, "2 *n M"], share: Float[Tensor, "M"]
) -> tuple[Float[Tensor, "*n M"], Float[Tensor, "*n M"]]:
    """What is between the ends, and its derivative by the share."""
    near, far = ends.unbind(0)
    change = far - near
    return torch.addcmul(near, share, change), change


def _smoothstep(t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return t * t * (3 - 2 * t)
