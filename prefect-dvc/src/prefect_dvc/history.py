"""How long each stage took the last time, in `.dvc/tmp`, which DVC keeps out of git."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FILE = Path(".dvc", "tmp", "prefect-dvc-seconds.json")


def read(root: Path) -> dict[str, float]:
    """Return the seconds of each stage; empty if nothing readable is recorded."""
    try:
        found = json.loads((root / FILE).read_bytes())
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write(root: Path, seconds: Mapping[str, float]) -> None:
    """Record the seconds of the stages that ran; keep those of the others."""
    ran = {name: round(value, 3) for name, value in seconds.items() if value}
    if not ran:
        return
    path = root / FILE
    draft = path.with_suffix(".tmp")
    # Only the order in which stages start depends on it: a full disk is not an error.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(read(root) | ran, indent=1) + "\n")
        draft.replace(path)
