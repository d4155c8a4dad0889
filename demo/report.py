"""A program that the demo runs from the tree: like most jobs, it needs a part of the environment, here numpy."""

import numpy as np

GREETING = "first edition"

heights = np.random.default_rng(20240229).gamma(9.0, 2.0, 10_000)
print(f"{GREETING}: numpy {np.__version__}, 10,000 trees, mean height {heights.mean():.2f}", flush=True)
