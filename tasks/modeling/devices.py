"""Choose the device that a step computes on."""

from typing import Literal

import torch

from tasks.runtime.params import BadInput

Device = Literal["auto", "cpu", "cuda"]


def choose(wanted: Device, section: str) -> torch.device:
    """Return the device for `wanted`, which stands in `section` of params.yaml.

    Raises:
        BadInput: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise BadInput(
            f"`{section}.device` is 'cuda', but torch finds no CUDA device; use 'auto' "
            "or 'cpu'."
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
