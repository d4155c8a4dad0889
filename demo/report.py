"""The program that the demo runs from the tree: it needs numpy, pandas, and little of either."""

import numpy as np
import pandas as pd

GREETING = "first edition"

random = np.random.default_rng(20240229)
trees = pd.DataFrame({"kind": random.choice(["oak", "elm", "yew"], 10_000), "height": random.gamma(9.0, 2.0, 10_000)})
heights = trees.groupby("kind")["height"].mean().round(2)
print(f"{GREETING}: numpy {np.__version__}, pandas {pd.__version__}, mean heights {heights.to_dict()}", flush=True)
