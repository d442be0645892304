"""The choices of a person who looks at data: noise axis and units."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class View:
    """Noise axis and units of a picture; they change no number.

    Attributes:
        axis: "t", "log-snr", "sigma" or "timestep"; None leaves each panel its natural one.
        units: "nats" or "bits".
    """

    axis: str | None = None
    units: str = "nats"

    def on(self, natural: str) -> str:
        """The chosen axis, or the one that suits the panel."""
        return self.axis or natural

    def information(self, nats: Any) -> Any:
        """An amount of information, given in nats, in the chosen units."""
        import numpy as np  # not at the top: the commands import this module, and help must come at once

        return np.asarray(nats) / (math.log(2) if self.units == "bits" else 1.0)

    @property
    def unit(self) -> str:
        """One unit, for labels."""
        return "bit" if self.units == "bits" else "nat"
