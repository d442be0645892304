"""Figures on disk: data beside the picture, tied to what it was computed from.

A figure NAME leaves NAME.nc, NAME.png and NAME.pdf in its folder; a quick one leaves NAME-fast.nc and so on,
so that the two can never be taken for each other. Every file is written aside and renamed.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paper_figures.figures.registry import Figure
from paper_figures.figures.settings import Settings, fingerprint

# Heavy packages are imported where they are used: who only says what is to be made does without.
if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure as Picture

FORMAT = "speciation-figure/1"
PICTURES = (".png", ".pdf")


@dataclasses.dataclass(frozen=True)
class Job:
    """One figure to be made with some settings in some folder."""

    figure: Figure
    settings: Settings
    folder: Path

    @property
    def fingerprint(self) -> str:
        """What data on disk must carry to stand for this job."""
        return fingerprint(self.figure.name, self.figure.version, self.settings)

    def path(self, suffix: str) -> Path:
        """Where its file of that suffix lies."""
        return self.folder / f"{self.figure.name}{'-fast' if self.settings.fast else ''}{suffix}"

    def stored(self) -> "xr.Dataset | None":
        """Its data, if the folder holds them and they were computed from the same."""
        if not self.path(".nc").exists():
            return None
        from gmm.curve import load_dataset

        try:
            dataset = load_dataset(self.path(".nc"))
        except ValueError:  # damaged: compute it again
            return None
        return dataset if dataset.attrs.get("fingerprint") == self.fingerprint else None

    def save(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Write its data with all that is needed to compute them again.

        Returns:
            What a later run will read, so that the first picture is drawn from nothing else.
        """
        from gmm.curve import load_dataset, versions
        from gmm.files import write_aside

        complete = dataset.assign_attrs(
            format=FORMAT,
            figure=self.figure.name,
            figure_version=self.figure.version,
            fingerprint=self.fingerprint,
            settings=json.dumps(self.settings.as_dict()),
            versions=json.dumps(versions()),
        )
        with write_aside(self.path(".nc")) as aside:
            complete.to_netcdf(aside, engine="h5netcdf")
        return load_dataset(self.path(".nc"))


def save_picture(picture: "Picture", path: Path) -> None:
    """Write a picture in the format of its suffix, without dates: equal data give equal files."""
    from gmm.files import write_aside

    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    with write_aside(path) as aside:
        picture.savefig(aside, metadata=metadata)


def ensure_writable(folder: Path) -> None:
    """Create the folder and try to write into it.

    Raises:
        ValueError: when that fails; asked before anything is computed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--out must be a folder that can be written, got {folder}: {error.strerror}"
        ) from error
