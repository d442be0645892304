"""Fetching a repository from the Hugging Face hub, by its own library: resumed, checked against its sizes.

A revision is a commit, so that what is fetched today is what was fetched yesterday.
"""

from pathlib import Path
from typing import Any

from neural.checkpoints import hub
from neural.checkpoints.checkpoint import CheckpointError
from neural.checkpoints.presets import Repository

WEIGHTS = (".safetensors", ".bin", ".ckpt")


def fetch_repository(repository: Repository, revision: str | None = None) -> Path:
    """Bring the files of a repository into the cache, those that do not lie there already.

    A transfer that was interrupted goes on where it stopped. Weights that have come are read as checkpoints and
    their sha256 is recorded beside them; what an earlier fetch has recorded must still be so.

    Args:
        repository: which, and which files.
        revision: another commit, branch or tag than the pinned commit.

    Returns:
        Their folder.

    Raises:
        ValueError: when the package huggingface_hub is missing, the hub cannot be reached or has no such file or
            revision, what came is no checkpoint, or a file of an earlier fetch has changed.
    """
    library = _library()
    for file in repository.files:
        path = repository.folder / file
        if path.is_file() and revision is None:
            _check(path)
            continue
        try:
            library.hf_hub_download(
                repository.name, file, revision=revision or repository.revision, local_dir=repository.folder
            )
        except Exception as error:  # of the library, its transport, or the disk
            raise ValueError(_reason(repository, file, error)) from error
        _record(path, anew=revision is not None)
    return repository.folder


def _check(path: Path) -> None:
    if path.suffix in WEIGHTS:
        hub.record(path)


def _record(path: Path, *, anew: bool) -> None:
    if path.suffix not in WEIGHTS:
        return
    if anew:
        hub.forget(path)
    try:
        hub.record(path)
    except CheckpointError:
        path.unlink(missing_ok=True)  # keeping it would end in the same place
        raise


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            "the Hugging Face hub needs the package huggingface_hub; run: pip install 'speciation[models]'"
        ) from error
    return huggingface_hub


def _reason(repository: Repository, file: str, error: Exception) -> str:
    said = str(error).strip().split("\n")[0] or type(error).__name__
    return (
        f"cannot fetch {file} of {repository.name}: {said}; run the command again to go on, or on a machine "
        f"without network put the files of {repository.address} into {repository.folder}"
    )
