"""Published set-ups, and what a run costs."""

import dataclasses
from typing import Any

import numpy as np

from neural.denoiser import Denoiser
from neural.samplers import edm_times


@dataclasses.dataclass(frozen=True, eq=False)
class Preset:
    """A published set-up: keywords for `online_entropy`, to be spread into the call.

    Attributes:
        steps: network evaluations of a trajectory.
        samples: trajectories of a highlighted curve; others: of the rest.
        timesteps: whether the grid is equal steps of the model's own index rather than EDM's.
    """

    steps: int
    samples: int
    others: int
    timesteps: bool = False

    def arguments(self, denoiser: Denoiser, *, highlighted: bool = True) -> dict[str, Any]:
        """Keywords: one class against the unconditional network at prior ½, log-ratio from zero."""
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


# arXiv 2602.09651 as far as it is known: partitions, prompts and Stable Diffusion's grid are not published.
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
    """Network evaluations of `online_entropy` with that many conditions: what a run costs before it starts."""
    references = int(tracker != "classes" or guided)
    return samples * (steps + (start == "state")) * (conditions + references)
