"""Choose the device that a step computes on."""

from typing import TYPE_CHECKING, Literal

from tasks.runtime.params import BadInput

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def choose(setting: Device, section: str) -> "torch.device":
    """Return the device for the setting `<section>.device` of params.yaml."""
    import torch  # noqa: PLC0415  # 1.5 s, and settings need only the names above

    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise BadInput(
            f"`{section}.device` is 'cuda', but torch finds no CUDA device; use 'auto' "
            "or 'cpu'."
        )
    return torch.device("cuda" if available and setting != "cpu" else "cpu")
