"""Measure every model on data/test.csv; draw the predictions of the best one."""

import json
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

table = pd.read_csv("data/test.csv")
scores, predictions = {}, {}
for path in sorted(Path("models").glob("*.json")):
    model = json.loads(path.read_text())
    weights = pd.Series(model["weights"])
    predictions[path.stem] = table[weights.index] @ weights + model["intercept"]
    scores[path.stem] = round(r2_score(table["target"], predictions[path.stem]), 4)
best = max(scores, key=lambda name: scores[name])
Path("metrics.json").write_text(json.dumps({"r2": scores, "best": best}) + "\n")

mpl.rcParams["svg.hashsalt"] = "tabular"  # the same bytes each time
figure = Figure(figsize=(5, 4), layout="constrained")
axes = figure.subplots()
axes.scatter(table["target"], predictions[best], s=14)
axes.axline((150, 150), slope=1, color="grey", linewidth=1)
axes.set(xlabel="measured", ylabel="predicted", title=f"{best}: R2 {scores[best]:.2f}")
figure.savefig("predictions.svg", metadata={"Date": None})
print(f"best is {best}: R2 {scores[best]:.3f} on the test table")
