"""Split scikit-learn's diabetes data into data/train.csv and data/test.csv."""

from pathlib import Path

import yaml
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

params = yaml.safe_load(Path("params.yaml").read_text())["prepare"]
table = load_diabetes(as_frame=True, scaled=False).frame
train, test = train_test_split(
    table, test_size=params["test_fraction"], random_state=params["seed"]
)
Path("data").mkdir(exist_ok=True)
train.to_csv("data/train.csv", index=False)
test.to_csv("data/test.csv", index=False)
print(f"{len(train)} rows to train on, {len(test)} to test on")
