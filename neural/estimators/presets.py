"""Published set-ups, and the number of network evaluations of a run."""

import dataclasses
from typing import Any

import numpy as np

from neural.denoiser import Denoiser
from neural.samplers import edm_times


@dataclasses.dataclass(frozen=True, eq=False)
class Preset:
    """A published set-up: keywords for `online_entropy`.

    Attributes:
        steps: network evaluations per trajectory.
        samples: number of trajectories of a highlighted curve; others: of every other curve.
        timesteps: whether the grid has equal steps of the model's own index instead of EDM's spacing.
    """

    steps: int
    samples: int
    others: int
    timesteps: bool = False

    def arguments(self, denoiser: Denoiser, *, highlighted: bool = True) -> dict[str, Any]:
        """The keywords: one class against the unconditional network at prior ½, log-ratio from zero."""
        process = denoiser.process
        if self.timesteps:
            times = np.linspace(process.t_max, process.t_min, self.steps)
        else:
            times = edm_times(process, self.steps)
        return {
            "tracker": "unconditional",
            "start": "prior",
            "times": times,
            "samples": self.samples if highlighted else self.others,
        }


# arXiv 2602.09651 as far as it is published; its partitions, prompts and grid for Stable Diffusion are not.
PAPER = {"edm2": Preset(64, 3000, 300), "sd15": Preset(100, 400, 400, timesteps=True)}


def evaluations(
    conditions: int,
    samples: int,
    steps: int,
    *,
    tracker: str = "classes",
    start: str = "state",
    guided: bool = False,
) -> int:
    """Number of network evaluations of an `online_entropy` call with that many conditions."""
    references = int(tracker != "classes" or guided)
    return samples * (steps + (start == "state")) * (conditions + references)
