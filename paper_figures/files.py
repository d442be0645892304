"""Files of results: folders that can be written, data and images written whole."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Heavy packages are imported where they are used: a command that only plans must not wait for them.
if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


def ensure_writable(folder: Path) -> None:
    """Create the folder and try to write into it, before anything is computed.

    Raises:
        ValueError: when that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be written, got {folder}: {error.strerror}"
        ) from error


def save_dataset(dataset: "xr.Dataset", path: Path) -> None:
    """Write a Dataset as NetCDF with a checksum, aside and then renamed."""
    from gmm import netcdf

    netcdf.save_dataset(path, dataset)


def save_image(image: "np.ndarray", path: Path, texts: Mapping[str, str]) -> None:
    """Write a picture as PNG, aside and then renamed, with texts in its metadata and no date.

    Args:
        image: (H, W, 1 or 3) bytes.
        path: where it goes.
        texts: metadata.
    """
    import numpy as np
    from matplotlib.image import imsave

    from gmm.files import write_whole

    colour = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    metadata: Any = {**texts, "Software": None}
    picture = io.BytesIO()
    imsave(picture, np.ascontiguousarray(colour), format="png", metadata=metadata)
    write_whole(path, picture.getbuffer())
