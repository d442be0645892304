"""What generated images are compared with: real images of a folder, or statistics of their features from files."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmm.fingerprint import fingerprint, tree_fingerprint
from neural.checkpoints import hashes
from neural.progress import Progress
from neural.vision.distances import GROUPS, Moments
from neural.vision.judge import BATCH, VisionJudge
from neural.vision.reference import image_files, read_images, read_moments
from paper_figures.studies.parts import kept_arrays

STATISTICS = {"inception": "fid", "dinov2": "fd_dinov2"}
"""The entry of EDM2's published statistics that belongs to a family of judges."""
CHUNK = 250
# The published files are named by the side of their images, such as img512.pkl.
_SIDE = re.compile(r"img(\d+)")


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What one judge's features of generated images are compared with.

    Attributes:
        moments: mean and covariance of real images' features, where a file holds them.
        features: (m, F) features of real images themselves, where there is a folder of them.
    """

    moments: Moments | None = None
    features: np.ndarray | None = None


def facts(references: Sequence[str]) -> list[Any]:
    """What identifies references: hashes of files; of images in folders their names, sizes and times of change."""
    return [_facts(Path(name)) for name in references]


def _facts(path: Path) -> Any:
    if not path.is_dir():
        return hashes([path])
    found = [(file.relative_to(path).as_posix(), file.stat()) for file in image_files(path)]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in found]


def dimensions(judge: VisionJudge) -> int:
    """Number of features of a judge."""
    side = judge.preprocessing.side
    return jax.eval_shape(judge.forward, jax.ShapeDtypeStruct((1, side, side, 3), np.float32)).shape[1]


def read_references(
    names: Sequence[str],
    judges: Mapping[str, VisionJudge],
    side: int,
    folder: Path | None,
    progress: Progress | None = None,
) -> dict[str, Reference]:
    """For every judge what its features are compared with.

    Args:
        names: folders of images, ``.npz`` files with mu and sigma, or EDM2's published pickles; a judge takes the first
            file that holds statistics of its features, and the images of the first folder.
        judges: vision networks by name.
        side: pixels along a side of the generated images, which real ones must have, too.
        folder: where features of real images are kept.
        progress: called while images are judged.

    Raises:
        ValueError: when a file cannot be read, images have another size, there are too few of them, or a judge has
            neither statistics nor images.
    """
    folders = [Path(name) for name in names if Path(name).is_dir()]
    files = [Path(name) for name in names if not Path(name).is_dir()]
    found = {name: Reference(_moments(files, judge, side)) for name, judge in judges.items()}
    if folders:
        features = _features(folders[0], judges, side, folder, progress)
        found = {name: dataclasses.replace(one, features=features[name]) for name, one in found.items()}
    lacking = [name for name, one in found.items() if one.moments is None and one.features is None]
    if lacking:
        judge = judges[lacking[0]]
        raise ValueError(
            f"reference must hold statistics of {dimensions(judge)} features of {judge.family} for {lacking[0]}, or be "
            f"a folder of images; got {', '.join(names) or 'none'}"
        )
    return found


def _moments(files: Sequence[Path], judge: VisionJudge, side: int) -> Moments | None:
    """Statistics of a judge's features from the first file that holds them; None where none does."""
    size = dimensions(judge)
    for path in files:
        said = _SIDE.search(path.name)
        if said is not None and int(said[1]) != side:
            raise ValueError(
                f"reference {path} is by its name of images of {said[1]} pixels; the network makes images of {side}"
            )
        entry = STATISTICS.get(judge.family)
        if path.suffix != ".npz" and entry is None:
            continue
        moments = read_moments(path, entry or "")
        if len(moments.mean) == size:
            return moments
        if path.suffix != ".npz":
            raise ValueError(
                f"reference {path} holds {len(moments.mean)} features of {entry}; the judge has {size}: it is another "
                "network than that of the statistics"
            )
    return None


def _features(
    images: Path, judges: Mapping[str, VisionJudge], side: int, folder: Path | None, progress: Progress | None
) -> dict[str, np.ndarray]:
    """(m, F) features of a folder's images by every judge."""
    files = image_files(images)
    if len(files) < 2 * GROUPS:
        raise ValueError(
            f"reference {images} must hold at least {2 * GROUPS} images, the least for error bars, got {len(files)}"
        )
    store = kept_arrays(folder)
    starts = range(0, len(files), CHUNK)
    listed = _facts(images)

    def one(number: int, _: Progress | None) -> Any:
        some = files[starts[number] : starts[number] + CHUNK]
        (shown,) = read_images(some, len(some))
        if shown.shape[1:3] != (side, side):
            raise ValueError(
                f"reference {images} holds images of {shown.shape[1]} x {shown.shape[2]} pixels; the network makes "
                f"images of {side} x {side}"
            )
        return {name: judge.features(shown, batch=BATCH) for name, judge in judges.items()}

    known = {name: identity(judge) for name, judge in judges.items()}
    names = [
        f"real-{fingerprint([known, listed[start : start + CHUNK]])[:20]}-{start:06d}" for start in starts
    ]
    parts = store.divided(names, one, progress)
    return {name: np.concatenate([part[name] for part in parts]) for name in judges}


def identity(judge: VisionJudge) -> str:
    """A hash of a judge's weights and sizes."""
    return tree_fingerprint(judge.family, judge.config, judge.weights)
