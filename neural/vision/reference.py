"""Images from folders, and statistics of reference images that others published."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gmm.npz import npz_member
from neural.checkpoints.array_files import read_array_pickle
from neural.vision.distances import Moments

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_BYTES = 2**30
MAX_PIXELS = 2**26
"""Of one image: what declares more is no sample of a model."""
SYMMETRIC = 1e-6


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files below a folder in the order of their names, sub-folders included, hidden files left out.

    A picture whose writing was killed is a hidden file.

    Raises:
        ValueError: when it is no folder, or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder of images")
    named = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = sorted(path for path in named if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ValueError(f"{root} holds no images ({', '.join(SUFFIXES)})")
    return files


def read_images(files: list[Path], batch: int) -> Iterator[UInt8[np.ndarray, "n height width 3"]]:
    """The images of some files, `batch` at a time, as 8-bit colours.

    Raises:
        ValueError: naming the file that is no image, has more than `MAX_PIXELS` pixels, or another size than the first.
    """
    size = None
    for start in range(0, len(files), batch):
        images = [_read_image(path) for path in files[start : start + batch]]
        size = images[0].shape if size is None else size
        for path, image in zip(files[start:], images, strict=False):
            if image.shape != size:
                raise ValueError(f"{path} has {_shown(image.shape)} pixels, the first image {_shown(size)}")
        yield np.stack(images)


def read_moments(path: str | os.PathLike[str], feature: str = "fid") -> Moments:
    """Mean and covariance of published reference statistics.

    Args:
        path: a ``.npz`` with arrays mu and sigma (pytorch-fid, EDM), or a pickle as EDM2 publishes it: a dictionary
            with an entry for each kind of feature, and the number of images.
        feature: the entry of a pickle, "fid" or "fd_dinov2".

    Raises:
        ValueError: when the file is neither, lacks the feature (those that it has are named), or its arrays are no mean
            and covariance.
    """
    path = Path(path)
    if path.suffix == ".npz":
        mean, covariance, count = _npz_moments(path)
    else:
        arrays = read_array_pickle(path)
        names = sorted({name.rpartition(".")[0] for name in arrays} - {""})
        if f"{feature}.mu" not in arrays or f"{feature}.sigma" not in arrays:
            raise ValueError(
                f"{path} holds no statistics of {feature}; it holds {', '.join(names) or 'none'}"
            )
        mean, covariance = arrays[f"{feature}.mu"], arrays[f"{feature}.sigma"]
        count = int(arrays.get("num_images", np.array(0)))
    return _checked(path, mean, covariance, count)


def _npz_moments(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    try:
        with zipfile.ZipFile(path) as archive:
            mean, covariance = (npz_member(archive, path, key, MAX_BYTES) for key in ("mu", "sigma"))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return mean, covariance, 0


def _checked(path: Path, mean: np.ndarray, covariance: np.ndarray, count: int) -> Moments:
    fits = (
        mean.ndim == 1
        and covariance.shape == mean.shape * 2
        and mean.dtype.kind == covariance.dtype.kind == "f"
    )
    if not fits or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(
            f"{path} must hold a finite mean (F,) and covariance (F, F), got {mean.shape} and {covariance.shape}"
        )
    if np.abs(covariance - covariance.T).max() > SYMMETRIC * np.abs(covariance).max():
        raise ValueError(f"{path}: the covariance is not symmetric")
    return Moments(mean.astype(np.float64), covariance.astype(np.float64), count)


def _read_image(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{path} declares {image.width} x {image.height} pixels, more than {MAX_PIXELS}"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no image that can be read: {error}") from error


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
