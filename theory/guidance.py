r"""The law of guided paths of two classes, without sampling, from the one coordinate that guidance changes.

Two classes ±m, within-class variance s², guided towards +m. Let q be the state's distance from the target's
mean along m, in its standard deviations, and ρ the signal-to-noise ratio, ρ = ‖m‖²/(s² + (σ/α)²), which grows
from 0 to ‖m‖²/s² on the way to data. With p the posterior of the other class,
log((1-p)/p) = h + 2ρ + 2√ρ q, h = log(π₊/π₋), the dynamics of every process are::

    reverse SDE          dq = [-q + 4(w-1) √ρ p] dκ + √2 dW        κ = ½ log ρ
    probability flow     dq =  2(w-1) √ρ p dκ

At w = 1, q stays N(0, 1). The first is solved as a Fokker-Planck equation (Scharfetter-Gummel fluxes,
Crank-Nicolson steps) on two grids, whose difference is the error estimate; the second as the differential equation
of each quantile, backwards from even points at the end where a weight is below one.
Derivation in ``docs/explanation/theory.md``.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.linalg import solve_banded
from scipy.special import expit

from gmm.checks import check_values, choose
from gmm.clock import Times, schedule
from gmm.curve import EntropyCurve, versions
from gmm.guidance import Guidance, exact_weight
from gmm.process import Process
from gmm.samplers import SAMPLERS, SMALLEST_RHO, Sampler, runge_kutta_step
from theory.noise import shares

Array = np.ndarray
# Solutions start at ρ = SMALLEST_RHO; w is taken to be constant before it.
DEVIATIONS = 9.0
SPACE_STEP, TIME_STEP = 0.04, 0.05
# Distance from a jump of the weight at which a side of it is evaluated, as a share of the step.
ASIDE = 1e-9


@dataclasses.dataclass(frozen=True)
class GuidedPair:
    """Averages along guided paths at T points, (T,) each.

    Attributes:
        rho: signal-to-noise ratio ‖m‖²/(s² + (σ/α)²).
        entropy: E H(p(·|x_t)), p the unguided posterior; nats.
        cross_entropy: E[-log p(target|x_t)].
        mean: E q: the shift from the target's mean along m in standard deviations of p_t(x|target).
        variance: Var q: the variance along m over that of p_t(x|target).
        weight: E w.
        divergence: KL(law of x_t ‖ p_t(x|target)); NaN for the flow.
        error: of entropy and cross-entropy, by how much the larger of the two moves when all steps are
            halved: the error of the coarser steps. The values are those of the finer steps for the flow, and
            extrapolated from both for the SDE.
    """

    rho: Array
    entropy: Array
    cross_entropy: Array
    mean: Array
    variance: Array
    weight: Array
    divergence: Array
    error: Array


def guided_pair(
    energy: float,
    guidance: Guidance,
    rho: Float[ArrayLike, " T"],
    *,
    variance: float = 1.0,
    prior: float = 0.5,
    sampler: Sampler = "sde",
    refine: int = 1,
) -> GuidedPair:
    """The law of guided paths of the pair ±m, at any signal-to-noise ratios.

    A schedule that tracks a likelihood ratio is given the exact one.

    Args:
        energy: ‖m‖², > 0.
        guidance: schedule; autoguidance has no pair.
        rho: (T,) ratios in any order, in (SMALLEST_RHO, energy/variance]; the last is that of clean data.
        variance: within-class variance s² >= 0.
        prior: π₊ of the target, in (0, 1).
        sampler: "sde" or "flow" (probability flow).
        refine: divides all steps.

    Raises:
        ValueError: when a value is outside its range, or the schedule needs a second network.
    """
    choose("sampler", sampler, SAMPLERS)
    pair = _Pair(float(energy), float(variance), float(prior), guidance)
    _check(pair)
    rho = np.asarray(rho, np.float64)
    last = energy / variance if variance > 0 else math.inf
    inside = lambda r: (r > SMALLEST_RHO) & (r <= last * (1 + 1e-12))
    check_values("rho", rho, f"in ({SMALLEST_RHO:g}, energy/variance = {last:g}]", inside)
    rising, inverse = np.unique(rho, return_inverse=True)
    solve = _fokker_planck if sampler == "sde" else _quantiles
    coarse, fine = (solve(pair, rising, refine * factor) for factor in (1, 2))
    error = np.abs(fine - coarse)[:2].max(axis=0)
    # Both schemes of the density are of second order.
    best = (4 * fine - coarse) / 3 if sampler == "sde" else fine
    return GuidedPair(rho, *best[:, inverse], error=error[inverse])  # type: ignore[call-arg]


def guided_curve(
    process: Process,
    times: Times,
    energy: float,
    guidance: Guidance,
    *,
    variance: float = 1.0,
    prior: float = 0.5,
    sampler: Sampler = "sde",
) -> EntropyCurve:
    """The curve that `gmm.guided_entropy` samples, for the pair ±m: entropy and cross-entropy along guided paths.

    The rate is the derivative of the entropy, by differences over 1% of ρ.

    Args:
        process: forward process.
        times: (T,) times.
        energy: ‖m‖²; other arguments and errors as in `guided_pair`.
        guidance: schedule.
        variance: within-class variance.
        prior: of the target.
        sampler: "sde" or "flow".

    Returns:
        A curve whose standard errors are zero; metadata has the error estimate.
    """
    grid = schedule(process, times)
    signal, moved = shares(grid.log_snr, variance)
    rho = energy * signal
    # A centred difference in log ρ, within the range.
    step, end = 0.01, energy / variance if variance > 0 else math.inf
    high, low = np.minimum(rho * (1 + step), end), rho * (1 - step)
    options: dict[str, Any] = {"variance": variance, "prior": prior, "sampler": sampler}
    solution = guided_pair(energy, guidance, np.concatenate([rho, high, low]), **options)
    entropy, above, below = solution.entropy.reshape(3, -1)
    slope = (above - below) / (high - low) * rho * moved
    zeros = np.zeros_like(rho)
    h = [prior, 1 - prior]
    return EntropyCurve(
        t=grid.t,
        log_snr=grid.log_snr,
        log_snr_slope=grid.log_snr_slope,
        entropy=entropy,
        entropy_stderr=zeros,
        rate=slope * grid.log_snr_slope,
        rate_stderr=zeros,
        prior_entropy=float(-np.sum(h * np.log(h))),
        cross_entropy=solution.cross_entropy[: rho.size],
        cross_entropy_stderr=zeros,
        metadata={
            "source": "Fokker-Planck" if sampler == "sde" else "probability flow of quantiles",
            "route": "guided pair",
            "process": process.describe(),
            "guidance": guidance.as_dict(),
            "energy": energy,
            "variance": variance,
            "prior": prior,
            "error": float(solution.error.max()),
            **versions(),
        },
    )


# ---------------------------------------------------------------------------------------------- inner parts


class _Pair(NamedTuple):
    energy: float
    variance: float
    prior: float
    guidance: Guidance

    def levels(self, rho: Any) -> Any:
        """σ/α at ρ; zero at the clean end."""
        return np.sqrt(np.maximum(self.energy / rho - self.variance, 0))

    def logit(self, q: Array, rho: Any) -> Array:
        """log(p₊/p₋)."""
        return math.log(self.prior) - math.log1p(-self.prior) + 2 * rho + 2 * np.sqrt(rho) * q

    def weight(self, q: Array, rho: Any) -> Array:
        """w(q) at ρ."""
        level = self.levels(rho)
        if not self.guidance.of_state:
            # One number for a level: a program for every grid of q would cost more than the rest.
            weight = exact_weight(self.guidance, level, 0.0, 0.0)
            return np.broadcast_to(weight, np.broadcast_shapes(np.shape(q), np.shape(level)))
        logit = self.logit(q, rho)
        ratio = -np.logaddexp(0, -logit) - math.log(self.prior)
        gap = 2 * expit(-logit) * rho * level / math.sqrt(self.energy)
        return exact_weight(self.guidance, level, ratio, gap)

    def push(self, q: Array, rho: Any) -> Array:
        """2 (w-1) √ρ p₋, what guidance adds to dq/dκ in the flow."""
        return 2 * (self.weight(q, rho) - 1) * np.sqrt(rho) * expit(-self.logit(q, rho))

    def push_slope(self, q: Array, rho: Any) -> Array:
        """Its derivative in q."""
        if not self.guidance.of_state:
            logit = self.logit(q, rho)
            return -4 * (self.weight(q, rho) - 1) * rho * expit(logit) * expit(-logit)
        step = 1e-5 / max(1.0, math.sqrt(rho))
        return (self.push(q + step, rho) - self.push(q - step, rho)) / (2 * step)

    def averages(self, q: Array, mass: Array, rho: float) -> list[float]:
        """Entropy, cross-entropy, mean, variance and weight under the weights `mass` of the points q."""
        logit = self.logit(q, rho)
        surprise, other = np.logaddexp(0, -logit), np.logaddexp(0, logit)
        entropy = expit(logit) * surprise + expit(-logit) * other
        mean = mass @ q
        rest = (mass @ entropy, mass @ surprise, mean, mass @ (q - mean) ** 2, mass @ self.weight(q, rho))
        return [float(value) for value in rest]


def _check(pair: _Pair) -> None:
    check_values("energy", pair.energy, "finite and > 0", lambda a: np.isfinite(a) & (a > 0))
    check_values("variance", pair.variance, "finite and >= 0", lambda a: np.isfinite(a) & (a >= 0))
    check_values("prior", pair.prior, "in (0, 1)", lambda a: (a > 0) & (a < 1))
    if pair.guidance.reference != "unconditional":
        raise ValueError(
            f"guidance must have the pair itself as its reference, got {pair.guidance.kind!r}; sample it"
        )
    if getattr(pair.guidance, "offset", 0):
        raise ValueError(
            "guidance must have no offset here: it belongs to a number of steps; sample it instead"
        )


def _nodes(pair: _Pair, rho: Array, refine: int) -> Array:
    """log ρ of all steps, with those of the results and those at which the weight jumps among them."""
    jumps = np.array([level for level in pair.guidance.jumps if math.isfinite(level)])
    corners = np.log(np.concatenate([[SMALLEST_RHO], rho, pair.energy / (pair.variance + jumps**2)]))
    corners = np.unique(corners[(corners >= math.log(SMALLEST_RHO)) & (corners <= math.log(rho[-1]))])
    parts = [
        np.linspace(a, b, math.ceil((b - a) * refine / TIME_STEP), endpoint=False)
        for a, b in itertools.pairwise(corners)
    ]
    return np.append(np.concatenate(parts), corners[-1])


def _axis(pair: _Pair, last: float, refine: int) -> Array:
    """Points q that cover the law up to ρ = last."""
    rho, weights = _weights(pair, last)
    # Towards the target guidance reaches as far as it beats the pull back; away from it, to the other class.
    places = np.linspace(0, 100, 1001)[None, :]
    strength = 4 * max(weights.max() - 1, 0) * np.sqrt(rho) * expit(-pair.logit(places, rho))
    high = DEVIATIONS + float(np.max(np.where(strength >= places, places, 0)))
    low = -DEVIATIONS - _displacement(weights) * math.sqrt(last)
    return np.linspace(low, high, math.ceil((high - low) * refine / SPACE_STEP) + 1)


def _weights(pair: _Pair, last: float) -> tuple[Array, Array]:
    """Ratios up to `last`, (100, 1), and the weights at typical states there, (300, 200)."""
    rho = np.geomspace(SMALLEST_RHO, last, 100)[:, None]
    probe = np.linspace(-DEVIATIONS, DEVIATIONS, 200)[None, :]
    return rho, np.concatenate([pair.weight(probe - shift * np.sqrt(rho), rho) for shift in (0, 1, 2)])


def _displacement(weights: Array) -> float:
    """The distance, in √ρ, by which weights below one move a state away from the target."""
    repulsion = max(1 - float(weights.min()), 0)
    return 2 * max(repulsion, 1) if repulsion > 0 else 0.0


def _fokker_planck(pair: _Pair, rho_out: Array, refine: int) -> Array:
    """Rows of averages at `rho_out` (rising), with the divergence last."""
    q = _axis(pair, rho_out[-1], refine)
    step, faces = q[1] - q[0], 0.5 * (q[1:] + q[:-1])
    density = np.exp(-0.5 * q**2)
    mass = density / density.sum()
    nodes = _nodes(pair, rho_out, refine)
    rows = []
    for start, end in itertools.pairwise(nodes):
        rho = math.exp(0.5 * (start + end))
        mass = _crank_nicolson(mass, 2 * pair.push(faces, rho) - faces, step, 0.5 * (end - start))
        if np.isin(end, np.log(rho_out)):
            rows.append([*pair.averages(q, mass, math.exp(end)), _divergence(q, mass, step)])
    return np.array(rows).T


def _crank_nicolson(mass: Array, drift: Array, step: float, time: float) -> Array:
    """dp/dκ = -∂(drift p) + ∂²p over a step; the flux of Scharfetter and Gummel keeps equilibria exact."""
    z = drift * step
    right, left = _bernoulli(-z) / step**2, _bernoulli(z) / step**2
    out = np.append(right, 0) + np.append(0, left)
    flux = right * mass[:-1] - left * mass[1:]
    change = np.append(0, flux) - np.append(flux, 0)
    half = 0.5 * time
    bands = np.stack([np.append(0, -half * left), 1 + half * out, np.append(-half * right, 0)])
    return solve_banded((1, 1), bands, mass + half * change)


def _bernoulli(z: Array) -> Array:
    safe = np.where(np.abs(z) > 1e-8, z, 1)
    return np.where(np.abs(z) > 1e-8, safe / np.expm1(safe), 1 - 0.5 * z)


def _divergence(q: Array, mass: Array, step: float) -> float:
    """KL(law ‖ N(0, 1))."""
    positive = mass > 0
    log_ratio = np.log(mass[positive] / step) + 0.5 * q[positive] ** 2 + 0.5 * math.log(2 * math.pi)
    return float(mass[positive] @ log_ratio)


def _quantiles(pair: _Pair, rho_out: Array, refine: int) -> Array:
    """Rows as of `_fokker_planck` for the flow: Runge-Kutta steps of quantiles of N(0, 1).

    Weights above one draw quantiles together, weights below one apart: nodes that are even at the start then leave the
    boundary of the two classes empty. Even at the end, followed backwards, they are dense wherever the flow
    separates them; Φ(q(start)) is the probability below each.
    """
    nodes = _nodes(pair, rho_out, refine)
    displacement = _displacement(_weights(pair, rho_out[-1])[1])
    laws = _backwards(pair, nodes, displacement, refine) if displacement else _forwards(pair, nodes, refine)
    is_output = np.isin(nodes, np.log(rho_out))
    rows = [
        [*pair.averages(q, mass, math.exp(node)), math.nan]
        for node, (q, mass), is_wanted in zip(nodes, laws, is_output, strict=True)
        if is_wanted
    ]
    return np.array(rows).T


Law = tuple[Array, Array]
"""Points q and the probability of each."""


def _forwards(pair: _Pair, nodes: Array, refine: int) -> Iterator[Law]:
    """The law at each node, from points that are even at the start."""
    start = np.linspace(-DEVIATIONS, DEVIATIONS, math.ceil(2 * DEVIATIONS * 2 * refine / SPACE_STEP) + 1)
    mass = np.exp(-0.5 * start**2)
    mass /= mass.sum()
    # Before the first node q has moved by ∫ push dκ, push ~ √ρ.
    q = start + pair.push(start, SMALLEST_RHO)
    yield q, mass
    for a, b in itertools.pairwise(nodes):
        q = _flow_step(pair, q, a, b)
        yield q, mass


def _backwards(pair: _Pair, nodes: Array, displacement: float, refine: int) -> list[Law]:
    """The law at each node, from points that are even at the end but for the boundary of the classes there."""
    q, log_spread = _final_points(pair, math.exp(nodes[-1]), displacement, refine)
    points = [q]
    for b, a in itertools.pairwise(nodes[::-1]):
        middle = 0.5 * (a + b)
        half = _flow_step(pair, q, b, middle)
        before = _flow_step(pair, half, middle, a)
        # log dq/ds by Simpson's rule along the step.
        ends = (q, b, -1), (half, middle, 0), (before, a, 1)
        slopes = [pair.push_slope(x, math.exp(at + side * ASIDE * (b - a))) for x, at, side in ends]
        log_spread -= 0.5 * (b - a) / 6 * (slopes[0] + 4 * slopes[1] + slopes[2])
        q = before
        points.append(q)
    start = q - pair.push(q, SMALLEST_RHO)
    log_mass = log_spread - 0.5 * start**2
    mass = np.exp(log_mass - log_mass.max())
    return [(q, mass / mass.sum()) for q in reversed(points)]


def _final_points(pair: _Pair, rho: float, displacement: float, refine: int) -> tuple[Array, Array]:
    """Points at the end, and the log of their spacing: an eighth of the width 1/(2√ρ) of the boundary within it."""
    low, high = -DEVIATIONS - displacement * math.sqrt(rho), DEVIATIONS
    boundary = float(np.clip(-pair.logit(np.zeros(()), rho) / (2 * math.sqrt(rho)), low, high))
    step = 0.5 * SPACE_STEP / refine
    share = min(1.0, 1 / (16 * math.sqrt(rho)) / (0.5 * SPACE_STEP))
    width = 16.0 / share * refine
    at = lambda s: step * (s - (1 - share) * width * np.tanh(s / width))
    ends = [math.copysign(abs(end) / step + width, end) for end in (low - boundary, high - boundary)]
    s = np.arange(math.floor(ends[0]), math.ceil(ends[1]) + 1)
    return boundary + at(s), np.log(1 - (1 - share) / np.cosh(np.clip(s / width, -300, 300)) ** 2)


def _flow_step(pair: _Pair, q: Array, a: float, b: float) -> Array:
    h = b - a
    first, middle, last = (math.exp(a + share * h) for share in (ASIDE, 0.5, 1 - ASIDE))
    return runge_kutta_step(lambda q, rho: 0.5 * pair.push(q, rho), q, h, first, middle, last)
