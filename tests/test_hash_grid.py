"""The hash encoding: a plain reference, exact derivatives, continuity, the rows of its table."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.fields.hash_grid import HASH_FACTORS, HashGrid, _Rows

# Resolutions 3, 6, 12 and 24: the first two levels keep 64 and 343 vertices, the others 512 rows.
LEVELS, FEATURES, CELLS, LOG2_ROWS = 4, 2, (3, 6, 12, 24), 9
FIRST = (0, 64, 64 + 343, 64 + 343 + 512)


def make_grid(dtype: torch.dtype = torch.float64) -> HashGrid:
    """Features of size one, so that errors show."""
    grid = HashGrid(LEVELS, FEATURES, CELLS[0], CELLS[-1], LOG2_ROWS).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        grid.table.copy_(torch.randn(grid.table.shape, generator=generator))
    return grid


def inner_points(count: int, seed: int = 1) -> Tensor:
    """Points of [-1, 1]^3 that are no nearer than 1e-3 of a cell to a border of any level.

    The finest cells are parts of the coarser ones, so theirs are all borders.
    """
    generator = torch.Generator().manual_seed(seed)
    cell = torch.randint(CELLS[-1], (count, 3), generator=generator)
    within = 1e-3 + 0.998 * torch.rand(count, 3, generator=generator, dtype=torch.float64)
    return 2 * (cell + within) / CELLS[-1] - 1


def row(level: int, vertex: np.ndarray) -> int:
    """Where a vertex' features are, by the formulas in unbounded integers."""
    x, y, z = (int(c) for c in vertex)
    side = CELLS[level] + 1
    if side**3 <= 2**LOG2_ROWS:
        return FIRST[level] + x + y * side + z * side**2
    one, two, three = HASH_FACTORS
    return FIRST[level] + (x * one + y * two + z * three) % 2**LOG2_ROWS


def plain_encoding(grid: HashGrid, point: np.ndarray) -> np.ndarray:
    """One point's encoding, corner by corner."""
    table, parts = grid.table.detach().numpy(), []
    for level, cells in enumerate(CELLS):
        place = (np.clip(point, -1, 1) + 1) * cells / 2
        cell = np.minimum(np.floor(place), cells - 1)
        t = place - cell
        smooth = 3 * t**2 - 2 * t**3
        total = np.zeros(FEATURES)
        for corner in product((0, 1), repeat=3):
            weight = np.prod(np.where(corner, smooth, 1 - smooth))
            total += weight * table[row(level, cell + corner)]
        parts.append(total)
    return np.concatenate(parts)


def rows_of(grid: HashGrid, cell: torch.Tensor) -> torch.Tensor:
    """The table's rows of the corners of cells (3 x cells x levels): cells x levels x 8."""
    return grid._row(cell).flatten(0, 2).permute(1, 2, 0)


class TestValue:
    def test_levels_grow_geometrically(self) -> None:
        grid = make_grid()
        assert (2 * grid._half).tolist() == list(CELLS)
        assert grid.out_features == LEVELS * FEATURES
        assert grid.table.shape == (FIRST[-1] + 512, FEATURES)

    def test_is_the_plain_sum_over_corners(self) -> None:
        grid = make_grid()
        points = torch.cat([inner_points(40), torch.tensor([[1.0, -1, 0.5], [3, 0.2, -7]])])
        expected = np.stack([plain_encoding(grid, point) for point in points.numpy()])
        torch.testing.assert_close(grid(points).detach(), torch.from_numpy(expected))

    def test_with_its_derivative_it_is_the_same(self) -> None:
        grid, points = make_grid(), inner_points(100)
        torch.testing.assert_close(grid.with_derivative(points)[0], grid(points))

    def test_vertices_get_the_features_stored_for_them(self) -> None:
        grid = make_grid()
        vertex = torch.cartesian_prod(*[torch.arange(CELLS[0] + 1)] * 3)
        points = 2 * vertex.flip(-1).double() / CELLS[0] - 1
        torch.testing.assert_close(grid(points)[:, :FEATURES], grid.table[: FIRST[1]])

    @given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_beyond_the_cube_is_the_nearest_point_of_it(self, point) -> None:
        grid, points = make_grid(), torch.tensor([point], dtype=torch.float64)
        value, derivative = grid.with_derivative(points)
        nearest, slope = grid.with_derivative(points.clamp(-1, 1))
        assert torch.equal(value, nearest) and torch.equal(derivative, slope)
        # There the encoding stands still along the axes left behind.
        beyond = (points.abs() >= 1)[0]
        assert not derivative[0, beyond].any()

    def test_no_points(self) -> None:
        """No ray may meet the surface in a step."""
        grid = make_grid()
        none = torch.zeros(0, 3, dtype=torch.float64)
        value, derivative = grid.with_derivative(none)
        assert grid(none).shape == value.shape == (0, 8) and derivative.shape == (0, 3, 8)
        (value.sum() + derivative.sum()).backward()
        assert not grid.table.grad.any()


class TestDerivative:
    def test_is_that_of_autograd(self) -> None:
        grid, points = make_grid(), inner_points(60).requires_grad_()
        value, derivative = grid.with_derivative(points)
        for feature in range(grid.out_features):
            (exact,) = torch.autograd.grad(value[:, feature].sum(), points, retain_graph=True)
            torch.testing.assert_close(derivative[..., feature], exact)

    def test_first_derivatives_by_finite_differences(self) -> None:
        """In points and table, of the encoding and of its derivative (so in points twice)."""
        grid = make_grid()
        points = inner_points(4).requires_grad_()
        table = grid.table.detach().clone().requires_grad_()

        def run(method):
            def encode(points, table):
                return torch.func.functional_call(_Calling(grid, method), {"grid.table": table},
                                                  (points,))  # fmt: skip

            return encode

        for method in ("forward", "with_derivative"):
            assert torch.autograd.gradcheck(
                run(method), (points, table), fast_mode=True, eps=1e-7, atol=1e-5
            )

    def test_a_loss_on_the_gradient_reaches_the_table_in_one_backward_pass(self) -> None:
        """As an eikonal term does; against the double backward of the encoding alone."""
        grid, points = make_grid(), inner_points(50).requires_grad_()
        weight = torch.linspace(-1, 1, grid.out_features, dtype=torch.float64)
        (slope,) = torch.autograd.grad((grid(points) @ weight).sum(), points, create_graph=True)
        (expected,) = torch.autograd.grad((slope.norm(dim=-1) - 1).square().sum(), grid.table)
        ours = grid.with_derivative(points.detach())[1] @ weight
        (found,) = torch.autograd.grad((ours.norm(dim=-1) - 1).square().sum(), grid.table)
        torch.testing.assert_close(found, expected)

    def test_gradients_of_shared_rows_add_up(self) -> None:
        """Against a dense matrix of every point's weight on every row."""
        grid = make_grid()
        points = inner_points(200).repeat(3, 1)
        weight = torch.randn(600, 8, generator=torch.Generator().manual_seed(2)).double()
        (grid(points) * weight).sum().backward()
        # The encoding is linear in the table: its matrix, column by column.
        expected = torch.zeros_like(grid.table)
        rows = rows_of(grid, grid._cells(points)[0])
        _, within = grid._cells(points)
        smooth = within * within * (3 - 2 * within)
        for number, corner in enumerate(product((0, 1), repeat=3)):
            end = torch.tensor(corner).bool()
            share = torch.where(end[:, None, None], smooth, 1 - smooth).prod(dim=0)
            for level in range(LEVELS):
                matrix = torch.nn.functional.one_hot(rows[:, level, number].long(), len(expected))
                part = weight[:, level * FEATURES : (level + 1) * FEATURES]
                expected += matrix.T.double() @ (share[:, level, None] * part)
        torch.testing.assert_close(grid.table.grad, expected)


class _Calling(torch.nn.Module):
    """Some method of the grid as a module's forward."""

    def __init__(self, grid: HashGrid, method: str) -> None:
        super().__init__()
        self.grid, self.method = grid, method

    def forward(self, points: Tensor):
        return getattr(self.grid, self.method)(points)


class TestContinuity:
    """Normals must not jump where a ray passes from cell to cell."""

    STEP = 1e-7

    @pytest.mark.parametrize("axis", range(3))
    def test_value_and_gradient_across_borders(self, axis) -> None:
        grid, points = make_grid(), inner_points(300)
        border = torch.randint(1, CELLS[-1], (300,), generator=torch.Generator().manual_seed(3))
        points[:, axis] = 2 * border / CELLS[-1] - 1
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = self.STEP
        before, after = grid.with_derivative(points - step), grid.with_derivative(points + step)
        # Features of size 4 at most change by a second derivative of 6 * 4 * 2 * 12^2 at most.
        for left, right in zip(before, after, strict=True):
            assert (left - right).abs().max() < 2 * self.STEP * 7000

    def test_the_slope_across_a_border_of_a_level_vanishes_there(self) -> None:
        """Smoothstep's: plain trilinear weights would have one-sided slopes that differ."""
        grid, points = make_grid(), inner_points(50)
        points[:, 1] = 1 / 3  # vertex 2 of 3
        _, derivative = grid.with_derivative(points)
        assert derivative[:, 1].abs().max() < 1e-9
        assert derivative[:, 0].abs().max() > 1


class TestLevels:
    @given(st.floats(0, LEVELS + 1))
    @settings(max_examples=30, deadline=None, derandomize=True)
    def test_fade_in_weighs_them(self, levels) -> None:
        grid, points = make_grid(), inner_points(20)
        full, slope = grid.with_derivative(points)
        grid.fade_in(levels)
        weight = torch.tensor([min(max(levels - level, 0.0), 1.0) for level in range(LEVELS)])
        torch.testing.assert_close(grid.level_weight.float(), weight, rtol=0, atol=1e-6)
        each = grid.level_weight.repeat_interleave(FEATURES)
        faded, faded_slope = grid.with_derivative(points)
        torch.testing.assert_close(faded, full * each)
        torch.testing.assert_close(faded_slope, slope * each)
        torch.testing.assert_close(grid(points), faded)

    def test_weights_are_part_of_the_state(self) -> None:
        grid, other = make_grid(), make_grid()
        grid.fade_in(1.5)
        other.load_state_dict(grid.state_dict())
        assert torch.equal(other.level_weight, torch.tensor([1, 0.5, 0, 0]).double())
        assert set(grid.state_dict()) == {"table", "level_weight", "factor", "corner"}

    def test_a_single_level(self) -> None:
        grid = HashGrid(1, 3, 4, 99, 10)
        assert grid._half.tolist() == [2] and grid(torch.zeros(2, 3)).shape == (2, 3)


class TestRows:
    def corners(self, level: int) -> tuple[Tensor, Tensor]:
        """Every vertex of a level, and its row, from cells that have it as first corner."""
        grid = make_grid(torch.float32)
        cell = torch.cartesian_prod(*[torch.arange(CELLS[level], dtype=torch.int32)] * 3)
        cells = torch.zeros(3, len(cell), LEVELS, dtype=torch.int32)
        cells[..., level] = cell.T
        vertex = cell[:, None] + torch.tensor(list(product((0, 1), repeat=3)))
        return vertex.reshape(-1, 3), rows_of(grid, cells)[:, level].reshape(-1)

    @pytest.mark.parametrize("level", range(LEVELS))
    def test_are_those_of_the_formulas(self, level) -> None:
        """Corners that cells share share a row, whatever 32-bit products do."""
        vertex, rows = self.corners(level)
        expected = [row(level, one) for one in vertex.numpy()]
        assert rows.tolist() == expected

    @pytest.mark.parametrize("level", [0, 1])
    def test_of_coarse_levels_belong_to_one_vertex_each(self, level) -> None:
        vertex, rows = self.corners(level)
        vertices = len(vertex.unique(dim=0))
        assert vertices == (CELLS[level] + 1) ** 3 == len(rows.unique())
        assert rows.min() == FIRST[level] and rows.max() == FIRST[level] + vertices - 1

    @pytest.mark.parametrize("level", [2, 3])
    def test_of_fine_levels_are_spread_over_their_part_of_the_table(self, level) -> None:
        _, rows = self.corners(level)
        assert FIRST[level] <= rows.min() and rows.max() < FIRST[level] + 2**LOG2_ROWS
        assert len(rows.unique()) > 0.98 * 2**LOG2_ROWS

    def test_overflowing_products_are_the_same_alone_and_among_many(self) -> None:
        """The largest grid that can be asked for; vectorised and scalar code must wrap alike."""
        grid = HashGrid(2, 1, 2, 4096, 12)
        generator = torch.Generator().manual_seed(4)
        points = 2 * torch.rand(501, 3, generator=generator) - 1
        points[0] = 1
        cell, _ = grid._cells(points)
        rows = rows_of(grid, cell)
        alone = torch.cat([rows_of(grid, one) for one in cell.split(1, dim=1)])
        assert torch.equal(rows, alone)
        assert rows.min() >= 0 and rows.max() < len(grid.table)
        place = cell[:, 0, 1].tolist()
        assert place[1] * HASH_FACTORS[1] > 2**31
        total = sum(c * factor for c, factor in zip(place, HASH_FACTORS, strict=True))
        assert rows[0, 1, 0] == 27 + total % 2**12

    @pytest.mark.parametrize("log2_rows", range(8, 23))
    def test_vertices_that_share_a_row_are_far_apart(self, log2_rows) -> None:
        """Of all (x, y, z) with x + a y + b z a multiple of the rows, against the densest lattice.

        That is the face-centred cubic one, whose cells of volume v have sides (sqrt(2) v)^(1/3).
        """
        rows, (_, two, three) = 2**log2_rows, HASH_FACTORS
        possible = (2**0.5 * rows) ** (1 / 3)
        y, z = np.meshgrid(*[np.arange(-int(possible), int(possible) + 1)] * 2)
        x = (rows // 2 - y * two - z * three) % rows - rows // 2
        length = np.sqrt(x**2 + y**2 + z**2)
        assert length[length > 0].min() > 0.76 * possible


class TestReading:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("features", [1, 2, 3, 4, 8])
    def test_rows_and_their_gradient_are_those_of_indexing(self, features, dtype) -> None:
        """However many bytes a row has, and though rows are asked for several times."""
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(50, features, generator=generator, dtype=dtype).requires_grad_()
        index = torch.randint(50, (300,), generator=generator)
        weight = torch.randn(300, features, generator=generator, dtype=dtype)
        exact, ours = table[index], _Rows.apply(table, index.int())
        assert torch.equal(ours, exact)
        (expected,) = torch.autograd.grad((exact * weight).sum(), table)
        (found,) = torch.autograd.grad((ours * weight).sum(), table)
        torch.testing.assert_close(found, expected)
