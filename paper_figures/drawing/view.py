"""How to look at data: what may be chosen when a picture is drawn."""

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class View:
    """How to look at data: what may be chosen when a picture is drawn, and changes no number.

    Attributes:
        axis: "t", "log-snr", "sigma" or "timestep"; None leaves each panel its natural one.
        units: "nats" or "bits".
    """

    axis: str | None = None
    units: str = "nats"

    def on(self, natural: str) -> str:
        """The chosen axis, or the panel's natural one."""
        return self.axis or natural

    def information(self, nats: Any) -> Any:
        """An amount of information in the chosen units."""
        return np.asarray(nats) / (math.log(2) if self.units == "bits" else 1.0)

    @property
    def unit(self) -> str:
        """One unit, for labels."""
        return "bit" if self.units == "bits" else "nat"
