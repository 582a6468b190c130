"""Time the same epoch with training libraries, if they are installed.

`pip install -e '.[frameworks]'` installs them. Each gets the same network, optimizer,
batch size and data in memory; validation, logs, checkpoints and progress bars are off.
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Epoch = Callable[[], object]


def installed(
    x: torch.Tensor, y: torch.Tensor, build: Callable[[], nn.Module], batch_size: int
) -> dict[str, Epoch]:
    """Return an epoch with Adam for each installed library."""
    makers = {"skorch": _skorch, "lightning": _lightning}
    return {
        name: make(x, y, build, batch_size)
        for name, make in makers.items()
        if find_spec(name)
    }


def _skorch(
    x: torch.Tensor, y: torch.Tensor, build: Callable[[], nn.Module], batch_size: int
) -> Epoch:
    import skorch  # noqa: PLC0415  # an optional dependency

    def epoch() -> None:
        skorch.NeuralNet(
            build(),
            criterion=nn.NLLLoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            batch_size=batch_size,
            max_epochs=1,
            train_split=None,
            iterator_train__shuffle=True,
            callbacks="disable",
            verbose=0,
        ).fit(x, y)

    return epoch


def _lightning(
    x: torch.Tensor, y: torch.Tensor, build: Callable[[], nn.Module], batch_size: int
) -> Epoch:
    import lightning  # noqa: PLC0415  # an optional dependency

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # it recommends more workers

    class Module(lightning.LightningModule):
        """The network, its loss and its optimizer."""

        def __init__(self) -> None:
            super().__init__()
            self.network = build()

        def training_step(
            self, batch: tuple[torch.Tensor, torch.Tensor], _: int
        ) -> torch.Tensor:
            """Return the loss of a batch."""
            return nn.functional.nll_loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """Return the optimizer."""
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)

    def epoch() -> None:
        lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Module(), loader)

    return epoch
