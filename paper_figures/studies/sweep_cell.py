"""One cell of a sweep: its curve and its speciation times, exact where that can be, else sampled."""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from gmm import families
from gmm.clock import times_at
from gmm.curve import EntropyCurve
from gmm.entropy import class_entropy
from gmm.fingerprint import fingerprint
from gmm.mixture import Mixture
from gmm.process import PROCESSES, Process
from neural.progress import Progress
from paper_figures.formats.curves import window_ends
from paper_figures.studies.exact_laws import exact_law, exact_times
from paper_figures.studies.sampled_times import Time, half_time, peak_time
from paper_figures.studies.sweep_axes import UNIFORM, Cell, SweepSettings
from theory import Problem, entropy_curve, speciation_time, tree_curves, unequal_curve
from theory.landmarks import fastest_of, half_entropy_of

OK = "ok"
POINT_FIELDS = ("t", "log_snr", "entropy", "entropy_stderr", "rate", "rate_stderr")
SCALARS = ("t_peak", "t_peak_stderr", "t_half", "t_half_stderr", "t_instability", "window_lo", "window_hi")
# Cells of few classes without a closed form: the route of `theory.exact_curve`. Four take about fifteen seconds.
LINE_INTEGRALS = {2: "pair", 3: "cluster", 4: "cluster"}
# The grid of noise levels reaches from hardly any information to hardly any doubt.
FIRST_RHO = 1e-3
LAST_RHO, LAST_RHO_PER_LOG_CLASS = 40.0, 8.0
# Means as built and centred, each with the copy it is made from: measured as the peak of a process at d = 10^6,
# K = 100, see docs/how-to/sweeps.md. K x K tables of distances between classes, where dimension has dropped out.
COPIES_OF_MEANS, COPIES_OF_TABLES = 4, 7
# Arrays of the size of a block of noisy points that live at once, and the points of the smallest block.
COPIES_OF_POINTS, FEWEST_POINTS = 6, 8

Curve = Callable[[np.ndarray], EntropyCurve]


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a cell.

    Attributes:
        status: "ok", or why there is nothing.
        method: "quadrature", a route of `theory.exact_curve`, "reduced" or "full"; empty where there is nothing.
        arrays: (points,) values of POINT_FIELDS and () values of SCALARS.
    """

    status: str
    method: str
    arrays: dict[str, np.ndarray]


def without_numbers(status: str, points: int) -> Result:
    """The result of a cell that has no numbers: NaN, and why."""
    empty = {name: np.full(points, np.nan) for name in POINT_FIELDS}
    return Result(status, "", empty | {name: np.array(np.nan) for name in SCALARS})


def impossible(cell: Cell, family: str) -> str:
    """Why a cell cannot exist; an empty text when it can."""
    most = {"simplex": cell.dim + 1, "tree": cell.dim + 1, "orthogonal": cell.dim}.get(family, math.inf)
    if cell.classes > most:
        return f"a {family} of {cell.classes} classes needs more than {cell.dim} dimensions"
    return ""


def method_of(cell: Cell, settings: SweepSettings) -> str:
    """How a cell is computed: the method of the settings, or for "auto" the cheapest exact one."""
    if settings.method != "auto":
        return settings.method
    if has_quadrature(cell, settings.family):
        return "quadrature"
    return LINE_INTEGRALS.get(cell.classes, "reduced")


def has_quadrature(cell: Cell, family: str) -> bool:
    """Whether a closed form exists: flat families always, trees of equal leaves, never random means."""
    return family in ("simplex", "orthogonal", "pair") or (family == "tree" and cell.prior == UNIFORM)


def memory(cell: Cell, settings: SweepSettings) -> int:
    """Bytes that the largest arrays of a cell take."""
    method = method_of(cell, settings)
    size = np.dtype(settings.dtype).itemsize
    if method == "quadrature":
        return 8 * settings.points * (cell.classes if cell.prior != UNIFORM else 1)
    if method != "full":
        return (8 * 3 + size * COPIES_OF_TABLES) * cell.classes**2
    means = COPIES_OF_MEANS * cell.classes * cell.dim
    return size * (means + COPIES_OF_POINTS * FEWEST_POINTS * cell.dim) + 8 * 3 * cell.classes**2


def compute(cell: Cell, settings: SweepSettings, progress: Progress | None = None) -> Result:
    """The numbers of one cell, which depend on the cell and the settings alone."""
    process = PROCESSES[cell.process]()
    why = impossible(cell, settings.family)
    method = method_of(cell, settings)
    if method == "quadrature" and not has_quadrature(cell, settings.family):
        why = why or f"no quadrature for a {settings.family} family with prior {cell.prior}"
    grid = noise_grid(cell, process, settings)
    if len(grid) < settings.points:
        why = why or f"{process.name} ends before anything is decided"
    if why:
        return without_numbers(why, settings.points)
    if method == "quadrature":
        exact = exact_curve(cell, settings.family, process)
        curve = exact(times_at(process, grid))
        scalars = exact_scalars(cell, settings.family, process, grid, exact)
    elif method in LINE_INTEGRALS.values():
        exact, coarse = line_integrals(cell, settings, process)
        curve = exact(times_at(process, grid))
        method = str(curve.metadata["route"])  # three classes may have a structure that is simpler
        scalars = scalars_of(process, grid, exact, coarse)
    else:
        curve = sampled_curve(cell, settings, process, times_at(process, grid), method == "full", progress)
        scalars = sampled_scalars(curve)
    scalars["t_instability"] = instability(cell, settings, process)
    scalars["window_lo"], scalars["window_hi"] = window_ends(curve)
    arrays = {name: np.asarray(getattr(curve, name)) for name in POINT_FIELDS}
    return Result(OK, method, arrays | {name: np.asarray(scalars[name], float) for name in SCALARS})


def energy(cell: Cell, family: str) -> float:
    """Squared norm of one mean, as the family's builder scales it."""
    centred = cell.dim * cell.separation**2
    return centred * cell.classes / (cell.classes - 1) if family == "orthogonal" else centred


def noise_grid(cell: Cell, process: Process, settings: SweepSettings) -> np.ndarray:
    """(points,) log(σ/α), equally spaced over the decision as far as the process visits it; else empty."""
    total = energy(cell, settings.family)
    problem = Problem(process, total, cell.variance)
    deepest = LAST_RHO + LAST_RHO_PER_LOG_CLASS * math.log(cell.classes)
    if cell.branching:  # the finest level may have a small share of the energy
        deepest *= len(cell.branching)
    high = 0.5 * math.log(max(total / FIRST_RHO - cell.variance, 1e-300))
    low = 0.5 * math.log(max(total / deepest - cell.variance, 1e-4 * (total / deepest)))
    last, first = (-0.5 * level for level in problem.visited())
    low, high = max(low, first), min(high, last)
    return np.linspace(low, high, settings.points) if low < high else np.zeros(0)


# ------------------------------------------------------------------------------------------ exact


def exact_curve(cell: Cell, family: str, process: Process) -> Curve:
    """The curve of a cell by quadrature, as a function of times."""
    total = energy(cell, family)
    if family == "tree":
        levels = np.cumprod(cell.branching)
        # Centring takes from each level's increments their mean over its nodes.
        increments = np.full(len(levels), total / np.sum(1 - 1 / levels))
        options = {"variance": cell.variance}
        return lambda t: tree_curves(process, t, cell.branching, increments, **options)[-1]
    weights = cell.weights()
    if weights is None:
        shape = {"variance": cell.variance, "classes": cell.classes, "family": family}
        return lambda t: entropy_curve(process, t, total, **shape)
    # Posteriors see differences only: an orthogonal family is a simplex of K/(K-1) of its energy.
    scale = 1.0 if family == "orthogonal" else cell.classes / (cell.classes - 1)
    energies = np.full(cell.classes, total * scale)
    return lambda t: unequal_curve(process, t, weights, energies, variance=cell.variance)


def exact_scalars(
    cell: Cell, family: str, process: Process, grid: np.ndarray, exact: Curve
) -> dict[str, float]:
    """Maximum of the rate and half of the entropy, to rounding; their standard errors are zero."""
    if family in ("simplex", "orthogonal", "pair") and cell.prior == UNIFORM:
        shape = {"variance": cell.variance, "classes": cell.classes, "family": family}
        criteria = ("entropy-rate", "half-entropy")
        peak, half = (
            float(speciation_time(process, energy(cell, family), criterion=name, **shape))
            for name in criteria
        )
        return {"t_peak": peak, "t_peak_stderr": 0.0, "t_half": half, "t_half_stderr": 0.0}
    return scalars_of(process, grid, exact)


def scalars_of(
    process: Process, grid: np.ndarray, exact: Curve, coarse: Curve | None = None
) -> dict[str, float]:
    """Maximum of the rate and half of the entropy of an exact curve, searched for on it, with numerical errors."""
    places = [lambda curve, find=find: find(curve, process, grid) for find in (fastest_of, half_entropy_of)]
    return _scalars(*exact_times(places, process, exact, coarse))


def line_integrals(cell: Cell, settings: SweepSettings, process: Process) -> tuple[Curve, Curve | None]:
    """The curve of two to four classes of any means as a function of times, and a coarser one; see `exact_law`."""
    with jax.enable_x64(True):
        return exact_law(mixture(cell, settings, full=False), process)


# ------------------------------------------------------------------------------------------ sampled


def mixture(cell: Cell, settings: SweepSettings, *, full: bool) -> Mixture:
    """The cell's mixture, in its own few coordinates or spread over all of its dimensions."""
    scale = {"separation": cell.separation, "variance": cell.variance, "weights": cell.weights()}
    sizes = cell.branching if settings.family == "tree" else (cell.classes,)
    key = means_key(cell, settings)
    low = families.named(settings.family, sizes, cell.dim, key=key, reduced=True, **scale)
    return families.spread(low, cell.dim) if full else low


def means_key(cell: Cell, settings: SweepSettings) -> jax.Array:
    """The random key of a cell's means: every process and every method gets the same problem to solve."""
    of_cell = fingerprint([settings.family, dataclasses.asdict(dataclasses.replace(cell, process=""))])
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), int(of_cell[:8], 16)), 1)


def cell_key(cell: Cell, settings: SweepSettings) -> jax.Array:
    """The random key of a cell's noise, independent of the order in which cells are computed."""
    return jax.random.fold_in(jax.random.key(settings.seed), int(cell.identity(settings)[:8], 16))


def sampled_curve(
    cell: Cell,
    settings: SweepSettings,
    process: Process,
    times: np.ndarray,
    full: bool,
    progress: Progress | None,
) -> EntropyCurve:
    """The curve of a cell by sampling, in the settings' precision."""
    with jax.enable_x64(settings.dtype == "float64"):
        options = {"key": cell_key(cell, settings), "samples": settings.samples, "progress": progress}
        return class_entropy(mixture(cell, settings, full=full), process, times, **options)


def sampled_scalars(curve: EntropyCurve) -> dict[str, float]:
    """Maximum of the rate and half of the entropy of a sampled curve, with standard errors."""
    return _scalars(peak_time(curve), half_time(curve))


def _scalars(peak: Time, half: Time) -> dict[str, float]:
    values = {"t_peak": peak.value, "t_peak_stderr": peak.stderr}
    return values | {"t_half": half.value, "t_half_stderr": half.stderr}


# ------------------------------------------------------------------------------------------ both


def instability(cell: Cell, settings: SweepSettings, process: Process) -> float:
    """When the centre turns unstable under the reverse SDE: by the largest between-class eigenvalue."""
    largest = between(cell, settings)
    if not largest > 0:
        return math.nan
    options = {"variance": cell.variance, "family": "pair", "criterion": "sde-instability"}
    return float(speciation_time(process, largest, **options))


def between(cell: Cell, settings: SweepSettings) -> float:
    """Largest eigenvalue of the between-class covariance."""
    if settings.family in ("simplex", "orthogonal", "pair") and cell.prior == UNIFORM:
        return cell.dim * cell.separation**2 / (cell.classes - 1)
    if settings.family == "tree" and cell.prior == UNIFORM:
        levels = np.cumprod(cell.branching)
        increments = energy(cell, "tree") / np.sum(1 - 1 / levels)
        # Along a direction between nodes of the first level, increments of every level below line up.
        return float(increments * np.sum(1 / levels))
    with jax.enable_x64(True):
        low = mixture(cell, settings, full=False)
        means, weights = np.asarray(low.means), np.asarray(low.weights)
    centred = np.sqrt(weights)[:, None] * (means - weights @ means)
    return float(np.linalg.norm(centred, 2) ** 2)
