"""Download the data: four files in the IDX format, from the first source that has them.

Reads the sections `download` and `images` of the dataset card; writes the four
uncompressed files to `data/raw`. Each must match its SHA-256, so every source gives the
same bytes, even one that is first converted (`tasks.sources.convert`). The next run
resumes an interrupted download from `data/.partial`.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tasks.dataset.spec import DatasetSpec
from tasks.rawdata import dataset_card, idx
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, Count, Settings, load, printable
from tasks.sources import convert, fetch
from tasks.sources.http import Unavailable

RAW = Path("data/raw")

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _without_secrets(source: str) -> str:
    """Refuse a password or a token, which git and dvc.lock would keep."""
    address = source.partition("://")[2]
    if "@" in address or "?" in address:
        raise PydanticCustomError(
            "secret",
            "it has a password or a query, which would be kept in git and dvc.lock; "
            "put a password into ~/.netrc",
        )
    return source


Source = Annotated[str, Field(min_length=1), AfterValidator(_without_secrets)]


class Download(Settings):
    """Section `download`: the files, and where they come from.

    Attributes:
        sources: tried in this order; see `tasks.sources.fetch`, or
            `tasks.sources.convert` if there is a `bundle`.
        timeout: seconds without an answer.
        sha256: file name -> hash of the uncompressed file.
        max_bytes: of the largest file, if it is larger than any of MNIST's.
        bundle: how sources in another format are converted.
    """

    sources: Annotated[tuple[Source, ...], Field(strict=False, min_length=1)]
    timeout: Annotated[float, Field(gt=0, le=fetch.PATIENCE)]
    sha256: dict[idx.FileName, Hash] = Field(min_length=len(idx.FILES))
    max_bytes: Count | None = None
    bundle: convert.Conversion | None = None


def download(settings: Download, folder: Path, spec: DatasetSpec | None = None) -> str:
    """Write the four files to `folder`, all or none; `spec` is of converted images.

    Returns:
        The source used; `folder` itself if it already has the files.

    Raises:
        Unavailable: no source has the files, but one may have them later.
        BadInput: no source has the files, or `folder` holds something else.
    """
    if others := {path.name for path in folder.glob("*")} - set(idx.FILES):
        names = ", ".join(sorted(others))
        raise BadInput(f"{folder} holds other files ({names}); remove them.")
    if all(
        _has_hash(folder / name, digest) for name, digest in settings.sha256.items()
    ):
        print(f"{folder}: the four files are already there.")
        return str(folder)
    partial = folder.parent / ".partial"
    source, contents = _from_first(settings, spec, partial)
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    shutil.rmtree(partial, ignore_errors=True)
    print(printable(f"{folder}: {len(contents)} files from {source}."))
    return source


def _has_hash(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _from_first(
    settings: Download, spec: DatasetSpec | None, partial: Path
) -> tuple[str, fetch.Files]:
    """Return the first source that has the files, and the files."""
    failures: list[BadInput] = []
    for source in settings.sources:
        try:
            return source, _fetch(source, settings, spec, partial)
        except BadInput as failure:
            print(f"skipped: {failure}")
            failures.append(failure)
    reasons = "; ".join(str(failure).rstrip(".") for failure in failures)
    later = any(isinstance(failure, Unavailable) for failure in failures)
    advice = "Try again later, or name" if later else "Name"
    advice += " another one under `download.sources` of the dataset card"
    if any(Path(source).exists() for source in settings.sources):
        advice += ", or rewrite it: `python -m flows.new_dataset FOLDER --force`"
    error_type = Unavailable if later else BadInput
    raise error_type(f"No source has the data: {reasons}. {advice}.")


def _fetch(
    source: str, settings: Download, spec: DatasetSpec | None, partial: Path
) -> fetch.Files:
    if settings.bundle is None or spec is None:
        return fetch.fetch_files(
            source, settings.sha256, settings.timeout, partial, settings.max_bytes or 0
        )
    contents, notes = convert.to_idx_files(
        source, settings.bundle, spec, settings.sha256
    )
    if notes:
        print(printable(f"{source}: {notes}."))
    return contents


def main() -> None:
    """Download what the dataset card names."""
    cli.parser(__doc__).parse_args()
    card = dataset_card.selected()
    settings = load("download", Download, card)
    spec = load("images", DatasetSpec, card) if settings.bundle else None
    download(settings, RAW, spec)


if __name__ == "__main__":
    cli.run(main)
