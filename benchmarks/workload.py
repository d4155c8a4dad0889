"""The program of tree V: says that it runs, imports pandas and scikit-learn, fits a small model, says what came out."""

print("running", flush=True)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

random = np.random.default_rng(20240229)
trees = pd.DataFrame({"girth": random.gamma(9.0, 2.0, 1_000)})
trees["height"] = 3.0 * trees["girth"] + random.normal(size=len(trees))
model = LinearRegression().fit(trees[["girth"]], trees["height"])
print(f"slope {model.coef_[0]:.2f} of {len(trees):,} trees", flush=True)
