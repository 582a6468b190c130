"""Keep a training between two epochs, to go on from there after an interruption.

A checkpoint is one safetensors file: no pickle. It bears the fingerprint of what it is
a part of, and one with another fingerprint is not looked at.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from tasks.runtime import files

METADATA = "fingerprint"

Tensors = dict[str, Tensor]


def fingerprint(settings: dict[str, Any], *arrays: np.ndarray) -> str:
    """Return a digest of what decides how a training goes."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(path: Path, fingerprint: str, tensors: Tensors) -> None:
    """Replace the checkpoint at `path`."""
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write_bytes(path, to_safetensors(own, {METADATA: fingerprint}))


def load(path: Path, fingerprint: str) -> Tensors | None:
    """Return what was kept at `path`, or None if nothing of this training was."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(METADATA) != fingerprint:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError):
        return None
