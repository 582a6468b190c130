"""Fit a ridge regression: `fit.py NAME ALPHA` writes models/NAME.json."""

import json
import sys
from pathlib import Path

import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

name, alpha = sys.argv[1], float(sys.argv[2])
table = pd.read_csv("data/train.csv")
inputs, target = table.drop(columns="target"), table["target"]
scaler, ridge = StandardScaler(), Ridge(alpha=alpha)
make_pipeline(scaler, ridge).fit(inputs, target)
weights = ridge.coef_ / scaler.scale_
model = {
    "alpha": alpha,
    "weights": dict(zip(inputs.columns, weights.round(6), strict=True)),
    "intercept": round(float(ridge.intercept_ - weights @ scaler.mean_), 6),
}
Path("models").mkdir(exist_ok=True)
Path(f"models/{name}.json").write_text(json.dumps(model, indent=1) + "\n")
print(f"{name}: R2 {ridge.score(scaler.transform(inputs), target):.3f} in training")
