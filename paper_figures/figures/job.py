"""A figure on disk: its data beside its picture, tied to what they were computed from.

A figure NAME leaves NAME.nc, NAME.png and NAME.pdf in its folder; a quick version leaves NAME-fast.nc and so on,
so that the two cannot be taken for each other. Every file is written aside and renamed.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper_figures.figures.registry import Figure
from paper_figures.figures.settings import ExperimentSettings, Settings
from paper_figures.files import save_dataset

# Heavy packages are imported where they are used: `speciation figures --dry-run` does without them.
if TYPE_CHECKING:
    import xarray as xr

FORMAT = "speciation-figure/1"


@dataclasses.dataclass(frozen=True)
class Job:
    """One figure to be made with some settings in some folder."""

    figure: Figure
    settings: Settings
    folder: Path

    @property
    def fingerprint(self) -> str:
        """What data on disk must carry to be used for this job: equal only if the data would be."""
        from gmm.fingerprint import fingerprint

        known = [self.figure.name, self.figure.version, self.settings.as_dict()]
        return fingerprint(known + self._contents())[:16]

    def _contents(self) -> list[Any]:
        """Hashes of the weights of an experiment: another file of the same name is another network."""
        if not isinstance(self.settings, ExperimentSettings):
            return []
        from neural.checkpoints import hashes, locate

        weights = [hashes(locate(name)) for name in self.settings.weights]
        if not self.settings.reference:
            return weights
        from paper_figures.studies.references import facts

        return [*weights, *facts(self.settings.reference)]

    def path(self, suffix: str) -> Path:
        """Where its file of that suffix lies."""
        return self.folder / f"{self.figure.name}{'-fast' if self.settings.fast else ''}{suffix}"

    def load(self) -> "xr.Dataset | None":
        """Its data, if the folder holds them and they were computed from the same settings and code."""
        if not self.path(".nc").exists():
            return None
        from gmm.netcdf import load_whole

        dataset = load_whole(self.path(".nc"))
        return (
            dataset if dataset is not None and dataset.attrs.get("fingerprint") == self.fingerprint else None
        )

    def save(self, dataset: "xr.Dataset") -> "xr.Dataset":
        """Write its data with all that is needed to compute them again.

        Returns:
            What a later run will read, so that the first picture is drawn from nothing else.
        """
        from gmm.curve import load_dataset, versions

        complete = dataset.assign_attrs(
            format=FORMAT,
            figure=self.figure.name,
            figure_version=self.figure.version,
            fingerprint=self.fingerprint,
            settings=json.dumps(self.settings.as_dict()),
            versions=json.dumps(versions()),
        )
        save_dataset(complete, self.path(".nc"))
        return load_dataset(self.path(".nc"))
