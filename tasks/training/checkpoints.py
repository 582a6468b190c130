"""Save a training between two epochs, to continue there after an interruption.

A checkpoint is one safetensors file with a fingerprint of the settings and the data;
a training ignores a checkpoint with another fingerprint.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tasks.runtime import files

METADATA = "fingerprint"


class Checkpoint:
    """The checkpoint of one training; with the path None, nothing is saved."""

    def __init__(
        self, path: Path | None, settings: dict[str, Any], *arrays: np.ndarray
    ) -> None:
        self._path = path
        if path:
            digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode())
            for array in arrays:
                digest.update(np.ascontiguousarray(array).data)
            self._fingerprint = digest.hexdigest()

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Replace the file."""
        if self._path:
            stored = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            files.write_bytes(self._path, save(stored, {METADATA: self._fingerprint}))

    def load(self) -> dict[str, Tensor]:
        """Return the saved tensors; none if the file is missing or does not match."""
        if not self._path:
            return {}
        try:
            with safe_open(self._path, framework="pt") as file:
                if (file.metadata() or {}).get(METADATA) != self._fingerprint:
                    return {}
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (OSError, SafetensorError):
            return {}

    def remove(self) -> None:
        """Remove the file if there is one."""
        if self._path:
            self._path.unlink(missing_ok=True)
