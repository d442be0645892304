"""Published weights by name, and where they lie on this machine.

Nothing here reads a checkpoint or touches the network.
"""

import dataclasses
import os
import re
import sys
from pathlib import Path

from neural.checkpoints.checkpoint import CheckpointError, quoted

CACHE_VARIABLE = "SPECIATION_CACHE"
EDM2_ADDRESS = "https://nvlabs-fi-cdn.nvidia.com/edm2/posthoc-reconstructions/"

_EDM2_NAME = re.compile(r"edm2-img\d{2,4}-[a-z]{1,3}(-uncond)?-\d{7}-\d\.\d{3}")


@dataclasses.dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        name: of the file.
        address: where it is published.
        size: its bytes as others report them, for display; None where unknown. What the server says counts.
    """

    name: str
    address: str
    size: int | None = None

    @property
    def path(self) -> Path:
        """Where it lies once fetched."""
        return cache_folder() / self.name


@dataclasses.dataclass(frozen=True)
class Preset:
    """Files that are used together.

    Attributes:
        about: one line.
        files: the network first, its unconditional sibling second.
    """

    about: str
    files: tuple[Published, ...]


def _edm2(stem: str, size: int | None = None) -> Published:
    return Published(f"{stem}.pkl", f"{EDM2_ADDRESS}{stem}.pkl", size)


PRESETS: dict[str, Preset] = {
    "edm2-xs": Preset(
        "EDM2-XS, ImageNet 512x512: the conditional network and its unconditional sibling, EMA length 0.045",
        (
            _edm2("edm2-img512-xs-2147483-0.045", 249_566_482),
            _edm2("edm2-img512-xs-uncond-2147483-0.045", 248_541_796),
        ),
    ),
}


def cache_folder() -> Path:
    """Where fetched weights lie: ``$SPECIATION_CACHE``, else the platform's place for such files."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "speciation"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "speciation" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "speciation"


def published(name: str) -> tuple[Published, ...] | None:
    """The files of a preset, or the one file of an official EDM2 name; None for any other name."""
    if name in PRESETS:
        return PRESETS[name].files
    stem = name.removesuffix(".pkl")
    return (_edm2(stem),) if _EDM2_NAME.fullmatch(stem) else None


def known(name: str) -> tuple[Published, ...]:
    """As `published`.

    Raises:
        ValueError: for a name that is neither.
    """
    files = published(name)
    if files is None:
        raise ValueError(
            f"NAME must be one of {', '.join(PRESETS)}, or an official name such as "
            f"edm2-img512-s-2147483-0.130; got {name!r}"
        )
    return files


def sibling(path: Path) -> Path | None:
    """The file of the unconditional network beside a conditional one, if it exists.

    Official names have ``-uncond`` in their middle, others at their end.
    """
    official = re.fullmatch(r"(edm2-img\d+-[a-z]+)(-\d{7}-\d\.\d{3})", path.stem)
    stem = f"{official[1]}-uncond{official[2]}" if official else f"{path.stem}-uncond"
    beside = path.with_name(stem + path.suffix)
    return beside if beside.exists() else None


def locate(source: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files of a source on this machine: of a preset or an official name in the cache, else the path itself.

    Returns:
        The network's file; a preset's unconditional one follows it.

    Raises:
        CheckpointError: when there is no such file, with the way to get it.
    """
    name = os.fspath(source)
    files = published(name) if isinstance(source, str) and not os.path.exists(name) else None
    if files is None:
        # Unlike Path.exists it has an answer to a name that no file can have.
        if not os.path.exists(name):
            raise CheckpointError(f"no such file: {quoted(name)}; nor is it a preset ({', '.join(PRESETS)})")
        return (Path(name),)
    for file in files:
        if not file.path.exists():
            raise CheckpointError(
                f"{file.name} is not on this machine; run `speciation weights fetch {name}`, or put the file "
                f"from {file.address} at {file.path}"
            )
    return tuple(file.path for file in files)
