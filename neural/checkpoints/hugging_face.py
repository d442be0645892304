"""Fetching a repository from the Hugging Face hub, whose own library gives the addresses and checksums of files.

A revision is a commit, so that the files are the same on every day. The transfer itself is
`neural.checkpoints.hub`'s: that library (2.4) begins a file anew when its process has ended, and one file here
has gigabytes.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural.checkpoints import hub
from neural.checkpoints.presets import Published, Repository

_SHA256 = re.compile("[0-9a-f]{64}")

Watcher = Callable[[Published], hub.DownloadProgress]
"""Makes the progress callback of one file's transfer."""


def fetch_repository(
    repository: Repository, revision: str | None = None, watcher: Watcher | None = None
) -> Path:
    """Bring the files of a repository into the cache, those that do not lie there already.

    A transfer that was interrupted goes on where it stopped. Every file is held to the sha256 that the hub says
    (it does of large files); weights must read as checkpoints. The sha256 is recorded beside the file, and what
    an earlier fetch has recorded must still be so.

    Args:
        repository: which, and which files.
        revision: another commit, branch or tag than the pinned commit; its files replace those in the cache.
        watcher: makes the progress callback of each file's transfer.

    Returns:
        Their folder.

    Raises:
        ValueError: when the package huggingface_hub is missing, the hub cannot be reached or has no such file or
            revision, a transfer breaks off, what came is not what was said or no checkpoint, or a file of an
            earlier fetch has changed.
    """
    library = _library()
    for path in repository.files:
        file = Published(f"{repository.folder_name}/{path}", repository.address)
        if revision is not None or not file.path.exists():
            file = _described(library, repository, path, revision or repository.revision)
            if revision is not None:
                hub.drop(file.path)
        hub.fetch(file, watcher(file) if watcher else None)
    return repository.folder


def _described(library: Any, repository: Repository, path: str, revision: str) -> Published:
    """The address, size and checksum of a file, from the hub."""
    address = library.hf_hub_url(repository.name, path, revision=revision)
    try:
        # No token: the repositories are public, and redirections lead to other hosts.
        said = library.get_hf_file_metadata(address, token=False)
    except Exception as error:  # of the library or its transport
        line = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"cannot fetch {path} of {repository.name}: {line}; run the command again to go on, or on a machine "
            f"without network put the files of {repository.address} into {repository.folder}"
        ) from error
    digest = said.etag if said.etag and _SHA256.fullmatch(said.etag) else None
    return Published(f"{repository.folder_name}/{path}", address, said.size, digest)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            "the Hugging Face hub needs the package huggingface_hub; run: python -m pip install huggingface_hub"
        ) from error
    return huggingface_hub
