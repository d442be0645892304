"""What the isotropic, balanced picture misses."""

import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.special import expit

import gmm
from gmm.curve import EntropyCurve
from paper_figures.drawing.style import View, draw_entropy, letter_panels, mark_entropy, new_figure, sequence
from paper_figures.figures.settings import Settings
from paper_figures.formats.curves import half_entropy_time, stack, unstack, vp_curve
from paper_figures.formats.numbers import Number, attach, number
from theory import binary_entropy, binary_entropy_rate, exact_curve
from theory.landmarks import fastest_of, half_entropy_of

CAPTION = """
Two classes under the variance-preserving process. (a) One covariance with eigenvalues from 4 to 0.06 and
mean 1, d = 32, ‖m‖² = 16: the same separation along the largest, a middling and the smallest eigenvector.
Lines are quadrature at ρ(t) = α² mᵀ(α²C + σ²I)⁻¹m, points are sampled in 32 dimensions (bars two standard
errors); the dotted line takes the mean variance for all directions. (b) Unequal priors, isotropic:
entropy as a share of H[Z]. (c) The ρ at which each criterion places speciation against the smaller prior;
the constants of the balanced pair (thin lines) hold at ½ alone. (d) Classes with one mean and unequal
variances, 0.5 and 1.5, d = 32: no criterion that looks at means sees them, yet they speciate; with means
at ‖m‖² = 4 as well, position and shape decide together (line integrals; dashed, the isotropic pair of
mean variance).
"""

DIM, ENERGY = 32, 16.0
ALIGNMENTS = {"largest": 0, "middle": DIM // 2, "smallest": DIM - 1}
PRIORS = (0.5, 0.2, 0.05, 0.01)
PRIOR_RANGE = (0.002, 0.5)
SHAPES = {"same mean": 0.0, "means apart": 4.0}
SHAPE_VARIANCES = (0.5, 1.5)
CRITERIA = ("half entropy", "cloning", "fastest decision")
# Balanced pair, variance 1 (quadrature): half entropy, clone midpoint, maximum of dH/dt.
BALANCED = (1.0440133154525, 0.8508444376142, 1.508330628786)
# Holds every criterion's rho for the priors above.
RHO_GRID = np.geomspace(0.02, 40.0, 4000)
_LOG_RANGE = np.log(RHO_GRID[[0, -1]])


def spectrum() -> np.ndarray:
    """(d,) eigenvalues of the within-class covariance: geometric over a factor of 64, mean 1."""
    values = np.geomspace(64.0, 1.0, DIM)
    return values / values.mean()


def compute(settings: Settings) -> xr.Dataset:
    """Aligned, unbalanced and unequal pairs."""
    times = np.linspace(0.02, 4.0, settings.size(200, 80))
    few = np.linspace(0.2, 3.4, settings.size(17, 9))
    samples = settings.size(8192, 2048)
    eigenvalues = spectrum()
    exact = [pair_curve(times, ENERGY, eigenvalues[index]) for index in ALIGNMENTS.values()]
    sampled = [_sample_aligned(few, index, settings.key(), samples) for index in ALIGNMENTS.values()]
    shapes = [_shape_curve(times[::2], energy) for energy in SHAPES.values()]
    dataset = xr.merge(
        [
            stack([*exact, pair_curve(times, ENERGY, 1.0)], "alignment", [*ALIGNMENTS, "mean variance"]),
            stack(sampled, "direction", list(ALIGNMENTS), prefix="sampled_"),
            stack(shapes, "shape", list(SHAPES), prefix="shape_"),
            _unbalanced(settings),
        ]
    )
    return attach(dataset, _numbers(dataset))


def pair_curve(times: np.ndarray, energy: float, variance: float) -> EntropyCurve:
    """The balanced pair ±m on the VP clock, m along an eigenvector of the within-class covariance.

    Args:
        times: (T,) times.
        energy: ‖m‖².
        variance: the eigenvalue.
    """
    # rho = energy / (variance + sigma²/alpha²) with sigma²/alpha² = e^{2t} - 1.
    rho = energy / (variance + np.expm1(2 * times))
    slope = -2 * np.exp(2 * times) * rho**2 / energy
    return vp_curve(times, binary_entropy(rho), binary_entropy_rate(rho) * slope, float(np.log(2)))


def _sample_aligned(times: np.ndarray, index: int, key: PRNGKeyArray, samples: int) -> EntropyCurve:
    """The same by sampling in all dimensions."""
    mean = np.sqrt(ENERGY) * np.eye(DIM)[index]
    mixture = gmm.Mixture(np.full(2, 0.5), np.stack([mean, -mean]), gmm.Diagonal(spectrum()))
    return gmm.class_entropy(mixture, gmm.vp(), times, key=key, samples=samples)


def _shape_curve(times: np.ndarray, energy: float) -> EntropyCurve:
    """Two classes of unequal variance with means ±m."""
    mean = np.sqrt(energy) * np.eye(DIM)[0]
    covariance = gmm.Isotropic(np.array(SHAPE_VARIANCES))
    return exact_curve(gmm.Mixture(np.full(2, 0.5), np.stack([mean, -mean]), covariance), gmm.vp(), times)


def _unbalanced(settings: Settings) -> xr.Dataset:
    """Entropy shares for a few priors, and every criterion's rho for many."""
    many = np.append(np.geomspace(*PRIOR_RANGE, settings.size(24, 8))[:-1], 0.5)
    share = [np.asarray(binary_entropy(RHO_GRID[::20], p)) / _prior_entropy(p) for p in PRIORS]
    return xr.Dataset(
        {
            "entropy_share": (("prior", "rho"), np.array(share)),
            "threshold": (("many_priors", "criterion"), [_thresholds(p) for p in many]),
        },
        coords={
            "prior": list(PRIORS),
            "rho": RHO_GRID[::20],
            "many_priors": many,
            "criterion": list(CRITERIA),
        },
    )


def _prior_entropy(prior: float) -> float:
    return float(-prior * np.log(prior) - (1 - prior) * np.log1p(-prior))


def _thresholds(prior: float) -> tuple[float, float, float]:
    """Rho at half entropy, at the clone midpoint and at the maximum of dH/dt (VP, variance 1)."""
    energy = 2 * RHO_GRID[-1]

    def exact(times: np.ndarray) -> EntropyCurve:
        rho = energy * np.exp(-2 * times)
        entropy, slope = binary_entropy(rho, prior), np.asarray(binary_entropy_rate(rho, prior))
        return vp_curve(times, entropy, -2 * rho * slope, _prior_entropy(prior))

    noise = 0.5 * np.log(energy / RHO_GRID[::-20] - 1)
    half, peak = (
        float(energy * expit(-2 * find(exact, gmm.vp(), noise))) for find in (half_entropy_of, fastest_of)
    )
    # E Σp² = 1 + dH/drho: its midpoint is where the slope has half its initial value 2π(1-π).
    above = lambda x: float(binary_entropy_rate(np.exp(x), prior)) + prior * (1 - prior)
    clone = float(brentq(above, *_LOG_RANGE))  # type: ignore[arg-type]
    return half, float(np.exp(clone)), peak


def _numbers(dataset: xr.Dataset) -> list[Number]:
    numbers = []
    for curve, name in zip(unstack(dataset, "alignment"), dataset.alignment.values, strict=True):
        label = f"t at half entropy, {name} eigenvector".replace("variance eigenvector", "variance")
        numbers.append(number(label, half_entropy_time(gmm.vp(), curve)))
    gap = []
    for curve, index in zip(unstack(dataset, "direction", "sampled_"), ALIGNMENTS.values(), strict=True):
        exact = pair_curve(curve.t, ENERGY, spectrum()[index])
        gap.append((curve.entropy - exact.entropy) / curve.entropy_stderr)
    deviations = np.abs(np.concatenate(gap))
    label = f"sampled against quadrature, largest |z| of {deviations.size}"
    numbers.append(number(label, deviations.max()))
    for criterion, balanced in zip(CRITERIA, BALANCED, strict=True):
        at = dataset.threshold.sel(criterion=criterion)
        numbers.append(number(f"ρ, {criterion}, prior ½", at.sel(many_priors=0.5), expected=balanced))
        numbers.append(number(f"ρ, {criterion}, prior {PRIOR_RANGE[0]}", at.isel(many_priors=0)))
    same = unstack(dataset, "shape", "shape_")[0]
    return [
        *numbers,
        number("t at half entropy, same mean, variances 0.5 and 1.5", half_entropy_time(gmm.vp(), same)),
    ]


def draw(dataset: xr.Dataset, view: View) -> Figure:
    """Directions, priors and shapes."""
    figure, axes = new_figure(2, 2, height=4.8)
    axis = view.on("t")
    _draw_directions(axes[0, 0], dataset, view, axis)
    _draw_shapes(axes[1, 1], dataset, view, axis)
    for prior, line in zip(dataset.prior.values, sequence(dataset.sizes["prior"]), strict=True):
        axes[0, 1].plot(dataset.rho, dataset.entropy_share.sel(prior=prior), label=f"{prior:g}", **line)
    axes[0, 1].set(xscale="log", xlabel=r"$\rho$", ylabel=r"$H[Z\,|\,X_t]\,/\,H[Z]$")
    axes[0, 1].invert_xaxis()
    axes[0, 1].legend(title="smaller prior")
    _draw_thresholds(axes[1, 0], dataset)
    names = ("direction matters", "priors matter", "thresholds against the prior", "shape matters")
    letter_panels(axes.flat, names)
    return figure


def _draw_directions(ax: Axes, dataset: xr.Dataset, view: View, axis: str) -> None:
    curves = unstack(dataset, "alignment")
    lines = [*sequence(len(ALIGNMENTS)), {"color": "0.55", "linestyle": ":"}]
    for curve, name, line in zip(curves, dataset.alignment.values, lines, strict=True):
        draw_entropy(ax, curve, view, axis, label=str(name), **line)
    for curve, line in zip(unstack(dataset, "direction", "sampled_"), lines[:-1], strict=True):
        mark_entropy(ax, curve, view, axis, fmt="o", markersize=2.5, color=line["color"])
    ax.legend(title="eigenvector")


def _draw_thresholds(ax: Axes, dataset: xr.Dataset) -> None:
    for criterion, marker, balanced in zip(CRITERIA, "os^", BALANCED, strict=True):
        drawn = ax.plot(
            dataset.many_priors, dataset.threshold.sel(criterion=criterion), marker=marker, label=criterion
        )
        ax.axhline(balanced, color=drawn[0].get_color(), linewidth=0.6, linestyle="-")
    ax.set(xscale="log", xlabel="smaller prior", ylabel=r"threshold $\rho$")
    ax.legend()


def _draw_shapes(ax: Axes, dataset: xr.Dataset, view: View, axis: str) -> None:
    curves = unstack(dataset, "shape", "shape_")
    for curve, name, line in zip(curves, dataset["shape"].values, sequence(3), strict=False):
        draw_entropy(ax, curve, view, axis, label=str(name), **line)
    balanced = pair_curve(curves[0].t, SHAPES["means apart"], float(np.mean(SHAPE_VARIANCES)))
    draw_entropy(ax, balanced, view, axis, label="means apart,\none variance", color="0.55", linestyle="--")
    ax.legend()
