"""Settings of every test run."""

import torch

# Small tensors gain nothing from threads and lose much where other programs run.
torch.set_num_threads(1)
