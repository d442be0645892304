"""H[Z|X_t] of any denoiser; docs/explanation/estimators.md explains the method.

The public functions are in `estimate`. `inputs` checks the arguments, `chain` holds the data types, `rows` the
coefficients of the steps, `tracking` the step, `trackers` the posteriors and rates, `runs` computes many trajectories
in chunks, and `curves` turns their moments into entropy curves. `precise` needs fewer evaluations, by `held`.
"""

from neural.estimators.estimate import (
    Calibration,
    PosteriorPaths,
    calibration,
    gap_entropy,
    online_entropy,
    posterior_paths,
)
from neural.estimators.inputs import Options, check_stochastic
from neural.estimators.precise import most_evaluations, precise_entropy
from neural.estimators.presets import PAPER, Preset, evaluations

__all__ = [
    "PAPER",
    "Calibration",
    "Options",
    "PosteriorPaths",
    "Preset",
    "calibration",
    "check_stochastic",
    "evaluations",
    "gap_entropy",
    "most_evaluations",
    "online_entropy",
    "posterior_paths",
    "precise_entropy",
]
