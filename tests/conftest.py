"""Settings of every test run."""

import pytest
import torch

# Small tensors gain nothing from threads and lose much where other programs run.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def full_precision():
    """A training lowers the precision of matrix products for the whole process."""
    yield
    torch.set_float32_matmul_precision("highest")
