"""Run the lesson as one bare script; `benchmarks/job.py` compares the flow with it.

It imports, reads the raw files, fits the baseline, trains the networks of params.yaml
with textbook loops, and draws one figure. It validates nothing, records nothing, and
runs nothing in parallel. `python benchmarks/script.py RAW_FOLDER FIGURE`.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

mpl.use("Agg")
from matplotlib import pyplot as plt

raw, figure = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.manual_seed(0)


def read(name: str, header: int) -> np.ndarray:
    """Return the bytes after a header."""
    return np.frombuffer((raw / name).read_bytes(), np.uint8, offset=header)


X = read("train-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 256
y = read("train-labels-idx1-ubyte", 8).astype(np.int64)
X = (X - X[:50000].mean()) / X[:50000].std()
X, V, y, v = X[:50000], X[50000:], y[:50000], y[50000:]

baseline = LogisticRegression(C=50 / len(X), max_iter=1000).fit(X, y)
print("baseline", baseline.score(V, v))


class Scratch(nn.Module):
    """The lesson's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(784, 10) / 784)
        self.bias = nn.Parameter(torch.randn(10) / 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities."""
        x = x @ self.weights + self.bias
        x = x - x.max(dim=1, keepdim=True).values
        return x - torch.log(torch.exp(x).sum(dim=1, keepdim=True))


def train(network: nn.Module, step: str) -> list[float]:
    """Train for an epoch and return the losses."""
    rules = {"adam": (torch.optim.Adam, 1e-3), "sgd": (torch.optim.SGD, 1e-2)}
    optimizer = None
    if step in rules:
        rule, rate = rules[step]
        optimizer = rule(network.parameters(), lr=rate)
    losses = []
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    for x, labels in DataLoader(data, batch_size=64, shuffle=True):
        loss = nn.functional.nll_loss(network(x), labels)
        loss.backward()
        if optimizer:
            optimizer.step()
            optimizer.zero_grad()
        else:
            for parameter in network.parameters():
                parameter.data -= 1e-2 * parameter.grad
                parameter.grad.zero_()
        losses.append(loss.item())
    with torch.no_grad():
        right = network(torch.from_numpy(V)).argmax(1) == torch.from_numpy(v)
    print(step, right.float().mean().item())
    return losses


layers = nn.Sequential(nn.Linear(784, 10), nn.LogSoftmax(dim=1))
for network, step in [
    (layers, "adam"),
    (Scratch(), "adam"),
    (Scratch(), "sgd"),
    (Scratch(), "by hand"),
]:
    plt.plot(train(network, step), label=step)
plt.legend()
plt.savefig(figure)
