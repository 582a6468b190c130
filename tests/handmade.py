"""Images and a model of hand for the tests of predictions: bars that a model tells."""

from pathlib import Path

import numpy as np
from PIL import Image

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Scale
from tasks.modeling import model_file
from tasks.modeling.calibration import Calibration
from tasks.modeling.model_file import Description, Model

MNIST = ImageSpec(shape=(28, 28), brightest=255, box=20)
WHOLE = ImageSpec(shape=(8, 8), brightest=16, box=None)


def upright() -> np.ndarray:
    """An upright bar in the form of MNIST, 20 high and 4 wide."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    return image


def lying() -> np.ndarray:
    """A lying bar, the same otherwise."""
    return np.ascontiguousarray(upright().T)


def bars(*, kept: int = 1000, wrong: int = 0) -> Model:
    """A model that tells lying bars from upright ones, calibrated on so many."""
    weights = np.zeros((28, 28, 2), np.float32)
    weights[4:24, 12:16, 1] = weights[12:16, 4:24, 0] = 0.05
    return Model(
        tensors={
            "weights": weights.reshape(784, 2),
            "bias": np.zeros(2, np.float32),
        },
        description=Description(
            title="Bars",
            form=MNIST,
            classes=("lying", "upright"),
            scale=Scale(divisor=256, mean=0.1, std=0.25),
            link="softmax",
            parameters={},
            calibration=Calibration(
                temperature=0.5, images=kept, curve=((0.9, kept, wrong),)
            ),
        ),
    )


def checkout_with_bars(folder: Path) -> Path:
    """Make a checkout with one model, `bars`, beside a folder of images, `some`."""
    root = folder / "checkout"
    model_file.save(bars(), root / "models" / "bars.safetensors")
    (root / "params.yaml").write_text("evaluate:\n  max_error: 0.01\n")
    some = folder / "some"
    some.mkdir()
    for number, image in enumerate([upright(), lying(), 255 - upright()]):
        Image.fromarray(image).save(some / f"{number}.png")
    (some / "3.png").write_bytes(b"no")
    return root
