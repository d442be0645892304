"""H[Z|X_t] of any denoiser; docs/estimators.md tells how.

What is asked is checked in `question`, run in chunks by `runs` along the steps of `tracking`, judged by `trackers`, and
told as curves by `curves`; `estimate` holds what people call.
"""

from neural.estimators.estimate import (
    Calibration,
    PosteriorPaths,
    calibration,
    gap_entropy,
    online_entropy,
    posterior_paths,
)
from neural.estimators.presets import PAPER, Preset, evaluations
from neural.estimators.question import Options, check_stochastic

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
    "online_entropy",
    "posterior_paths",
]
