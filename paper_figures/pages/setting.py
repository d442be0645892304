"""A setting of the explorer's page, as its address holds it, and the exact curve of that setting."""

import dataclasses
import math
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import ArrayLike, Float

import theory
from gmm import process as processes
from gmm.clock import times_at
from gmm.curve import EntropyCurve
from gmm.guidance import Constant
from gmm.process import Process

MODES = ("flat", "prior", "tree", "guided")
PROCESSES = ("vp", "vp-linear", "ve", "edm", "flow", "ddpm")
POINTS = 200
# Share of σ² in the variance of a class where a curve ends, if classes of this variance still overlap there.
CLEAN = 1e-3


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the page shows; the fields have the names that the page's address uses.

    Attributes:
        mode: "flat": K classes alike; "prior": a pair with a rare class; "tree": two levels; "guided": a pair.
        classes: K, in the mode "flat".
        dim: dimension d.
        separation: root mean square of a coordinate of a class mean: energies are d separation².
        variance: within-class variance.
        prior: of the rare class, or of the class that is guided to.
        family: "simplex" or "orthogonal", in the mode "flat".
        process: one of `PROCESSES`.
        coarse, fine: branching numbers of the tree.
        inner: root mean square of a coordinate of the finer level's increments; `separation` is that of the coarser.
        weight: guidance weight, >= 1.
        sampler: "sde" or "flow", what is guided.
        level: "coarse" or "fine", whose curve of a tree is meant.
    """

    mode: str = "flat"
    classes: float = 10.0
    dim: float = 1000.0
    separation: float = 1.0
    variance: float = 1.0
    prior: float = 0.01
    family: str = "simplex"
    process: str = "vp"
    coarse: float = 4.0
    fine: float = 10.0
    inner: float = 0.3
    weight: float = 2.0
    sampler: str = "sde"
    level: str = "fine"

    @property
    def energy(self) -> float:
        """Energy of a class mean, or of an increment of a tree's coarser level."""
        return self.dim * self.separation**2

    @property
    def inner_energy(self) -> float:
        """Energy of an increment of a tree's finer level."""
        return self.dim * self.inner**2

    def forward_process(self) -> Process:
        """The forward process; ddpm is the chain of Stable Diffusion 1.5."""
        if self.process == "ddpm":
            return processes.ddpm(processes.scaled_linear_betas())
        return processes.PROCESSES[self.process.replace("-", "_")]()


_CHOICES = {
    "mode": MODES,
    "process": PROCESSES,
    "family": ("simplex", "orthogonal"),
    "sampler": ("sde", "flow"),
    "level": ("coarse", "fine"),
}
_RANGES = {
    "classes": (2, 1e12),
    "dim": (1, 1e9),
    "separation": (1e-3, 1e3),
    "variance": (0, 1e3),
    "prior": (1e-6, 1 - 1e-6),
    "coarse": (2, 1e4),
    "fine": (2, 1e4),
    "inner": (1e-3, 1e3),
    "weight": (1, 20),
}


def parse_setting(text: str) -> Setting:
    """The setting that the address of the page names, such as "mode=prior&dim=1e4"; what is left out is the default.

    Names of things that do not change the curve, such as the axis, are passed over.

    Raises:
        ValueError: when a value is outside its range.
    """
    fields: dict[str, str | float] = {}
    for name, value in parse_qsl(text.lstrip("#")):
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise ValueError(
                    f"setting must have {name} in {', '.join(_CHOICES[name])}, got {value!r:.60}"
                )
            fields[name] = value
        elif name in _RANGES:
            fields[name] = _number(name, value)
    return Setting(**fields)  # type: ignore[arg-type]


def _number(name: str, text: str) -> float:
    low, high = _RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"setting must have {name} between {low:g} and {high:g}, got {text!r:.60}")
    return value


def exact_curve(setting: Setting, log_snr: Float[ArrayLike, " T"] | None = None) -> EntropyCurve:
    """The exact curve of a setting, by the package `theory`.

    Args:
        setting: what is asked.
        log_snr: (T,) noise levels; by default `POINTS` that hold the decision.

    Raises:
        ValueError: when the process visits none of the noise levels.
    """
    process = setting.forward_process()
    levels = noise_levels(setting) if log_snr is None else np.asarray(log_snr, float)
    times = times_at(process, -0.5 * levels)
    energy, variance = setting.energy, setting.variance
    if setting.mode == "flat":
        shape = {"classes": setting.classes, "family": setting.family}
        return theory.entropy_curve(process, times, energy, variance=variance, **shape)  # type: ignore[arg-type]
    if setting.mode == "prior":
        weights, energies = np.array([setting.prior, 1 - setting.prior]), np.full(2, 2 * energy)
        return theory.unequal_curve(process, times, weights, energies, variance=variance)
    if setting.mode == "tree":
        energies = np.array([energy, setting.inner_energy])
        branching = (setting.coarse, setting.fine)
        curves = theory.tree_curves(process, times, branching, energies, variance=variance)  # type: ignore[arg-type]
        return curves[setting.level == "fine"]
    options = {"variance": variance, "prior": setting.prior, "sampler": setting.sampler}
    return theory.guided_curve(process, times, energy, Constant(setting.weight), **options)  # type: ignore[arg-type]


def noise_levels(setting: Setting) -> np.ndarray:
    """Noise levels log(α²/σ²) that the process visits, from nothing decided to everything decided; (POINTS,) rising.

    Raises:
        ValueError: when the process visits none of them.
    """
    energies = [setting.energy] + ([setting.inner_energy] if setting.mode == "tree" else [])
    leaves = {"flat": setting.classes, "tree": setting.coarse * setting.fine}.get(setting.mode, 2.0)
    log_count = math.log(leaves)
    ratios = {"guided": (2e-3, 40.0), "prior": (2e-3, 60.0)}.get(
        setting.mode, (2e-3 * log_count, 4 * log_count + 28)
    )
    first = _level_at(ratios[0], max(energies), setting.variance)
    last = _level_at(ratios[1], min(energies), setting.variance)
    problem = theory.Problem(setting.forward_process(), 1.0)
    low, high = problem.visited()
    low, high = max(low, first), min(high, last)
    if not low < high:
        raise ValueError(
            f"setting must have a decision that {setting.process} visits: it lies at log SNR {first:.3g} to {last:.3g}"
        )
    # Not the ends themselves: the process may only approach them.
    return np.linspace(low, high, POINTS + 2)[1:-1]


def _level_at(rho: float, energy: float, variance: float) -> float:
    """Level at which ρ is reached, or at which a class is as good as clean."""
    if variance == 0:
        return math.log(rho / energy)
    clean = math.log((1 / CLEAN - 1) / variance)
    left = energy / rho - variance
    level = -math.log(left) if left > 0 else math.inf
    if level < clean:
        return level
    # Overlapping classes: start where the signal is a thousandth of what clean data have.
    return clean if rho > 1 else -math.log(variance / CLEAN)
