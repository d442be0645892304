r"""Entropies of two Gaussian classes with any covariances: one line integral, no sampling.

With priors π_0, π_1, densities p_0, p_1 and the Chernoff coefficient C(a) = ∫ p_0^a p_1^{1-a} dx, put
F(a) = π_0^a π_1^{1-a} C(a) π/sin(πa). On any line a = c + iu with 0 < c < 1, from the Mellin transforms of
log(1+r), r/(1+r), log²(1+r) and min(1, r)::

    H[Z|X]     = 1/(2π) ∫ F / (a(1-a)) du           E[p_0 p_1] = 1/(2π) ∫ F du
    Bayes error = 1/(2π) ∫ F sin(πa)/(π a(1-a)) du    dH/dλ = 1/(2π) ∫ F/(a(1-a)) ∂_λ log C du

The derivation is in ``docs/explanation/theory.md``. What makes the sum short and sharp:

* c is where F/(a(1-a)) is smallest on the real axis (a convex function). There the integrand is largest at u = 0
  and its modulus falls along the line, so that nothing cancels: values keep their relative precision however small
  they are, and however far the minimum of C is from ½.
* The trapezoid rule with step h errs by a sum of positive terms, the integral with its priors' ratio multiplied by
  e^{2πn/h}. Convexity bounds them by the values of F/(a(1-a)) on the real axis, which gives the step beforehand;
  the number of nodes is between 30 and 300 at usual priors and grows as log(1/π) for a prior π → 0.
* On the line 1 + (2a-1)μ = D (1 + iur) with D and r real: one real logarithm and one arctangent, each on its
  principal branch, and so no branch of log det to follow.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import psi

from gmm.pair_basis import FAR, LEFT_OUT, Coordinates, PairBasis

Array = np.ndarray
# Relative error e^{-30} of the coarser of two trapezoid sums; halving its step squares that.
_COARSE_ERROR = 30.0
_SINGULAR = 1e-5  # below, a variance relative to the mean of two has lost digits to the eigendecomposition
_RATE = 3  # its place among the integrands
_NOTHING = -800.0  # float64 holds e^{-745}
_EPS = float(np.finfo(np.float64).eps)
_NODES_AT_ONCE = 2**22
# Places on the real axis where the bound on the trapezoid rule is evaluated, as shares of the way to its ends.
_SHARES = np.concatenate([np.linspace(0.05, 0.9, 18), 1 - np.geomspace(0.08, 1e-4, 10)])
_BAYES_NODES = 2**15


class PairValues(NamedTuple):
    """Expectations over one noisy pair of classes, or bounds of their numerical errors.

    Attributes:
        entropy: H[Z|X] in nats.
        disagreement: 1 - E Σp² = 2 E[p_0 p_1].
        second_moment: E Σ p log² p.
        rate: -dH/d log_snr, the rate in log noise-to-signal (squared), positive.
        per_class: (2,) E[-log p(z|X) | Z = z].
    """

    entropy: float
    disagreement: float
    second_moment: float
    rate: float
    per_class: Array


class Line(NamedTuple):
    """The integrand on the line a = c + iu.

    Attributes:
        coordinates: of the pair.
        log_prior: (2,).
        c: real part of the line.
        log_top: log of F/(a(1-a)) at u = 0.
        size: rounding error of log_top, in units of float64's.
    """

    coordinates: Coordinates
    log_prior: Array
    c: float
    log_top: float
    size: float


def pair_values(
    basis: PairBasis, alpha: float, sigma: float, log_prior: Float[Array, " 2"]
) -> tuple[PairValues, PairValues]:
    """`PairValues` of two classes at a noise level, and bounds of their errors.

    Args:
        basis: the pair.
        alpha: signal scale.
        sigma: noise standard deviation.
        log_prior: (2,) log priors of the two classes, normalised; -inf for a class that does not occur.
    """
    integral = _line_and_end(basis, alpha, sigma, log_prior)
    if integral is None:
        return _values_when_decided(log_prior)
    line, far = integral
    half = 0.5 * _step(line)
    u = half * np.arange(int(np.ceil(far / half)) + 1)
    terms = _terms(line, u)
    # Nodes at -u are complex conjugates.
    terms[1:] *= 2
    fine = terms.sum(axis=0) * half
    error = np.abs(fine - terms[::2].sum(axis=0) * (2 * half))
    error += 4 * _EPS * (4 + line.size) * np.abs(terms).sum(axis=0) * half
    error[_RATE] += 2 * _EPS * _growth_size(line) * np.abs(terms[:, 1]).sum() * half
    scale = np.exp(line.log_top) / (2 * np.pi)
    return _by_name(scale * fine, log_prior), _by_name(scale * error, log_prior)


def bayes_error(
    basis: PairBasis, alpha: float, sigma: float, log_prior: Float[Array, " 2"]
) -> tuple[float, float]:
    """Probability that the likelier of two classes is the wrong one, and a bound of its numerical error.

    The integrand falls only as 1/u² times |C|, because min(1, r) has a kink: where the classes nearly coincide the
    error is larger than that of the entropy, and stated.
    """
    integral = _line_and_end(basis, alpha, sigma, log_prior)
    if integral is None:
        return 0.0, 0.0
    line = integral[0]
    half = 0.5 * _step(line)
    budget = max(256, min(_BAYES_NODES, 4 * _NODES_AT_ONCE // len(line.coordinates.count)))
    far = half * budget
    levels = half * np.geomspace(64, budget, 30)
    fallen = np.abs(_bayes_terms(line, levels)) < np.exp(-LEFT_OUT)
    if fallen.any():
        far = float(levels[np.argmax(fallen)])
    u = half * np.arange(int(np.ceil(far / half)) + 1)
    terms = _bayes_terms(line, u)
    terms[1:] *= 2
    real = np.real(terms)
    fine = real.sum() * half
    error = abs(fine - real[::2].sum() * 2 * half) + np.abs(terms[-1]) * u[-1]
    error += 4 * _EPS * (4 + line.size) * np.abs(terms).sum() * half
    top = np.exp(line.log_top) / (2 * np.pi)
    return float(top * fine), float(top * error)


def on_the_real_axis(
    basis: PairBasis, alpha: float, sigma: float, log_prior: Float[Array, " 2"], a: Float[Array, " n"]
) -> Array:
    """(n,) log of the entropy's integrand F(a)/(a(1-a)) at real a in (0, 1), where it is positive and convex."""
    return _log_real(basis.at(alpha, sigma), log_prior, a)[0]


def integrand(
    basis: PairBasis, alpha: float, sigma: float, log_prior: Float[Array, " 2"], u: Float[Array, " n"]
) -> tuple[float, Array]:
    """Where the line of integration crosses the real axis, and (n,) the integrand at u >= 0 over its value there.

    Raises:
        ValueError: when there is nothing to integrate, because the classes have no common point or one is absent.
    """
    integral = _line_and_end(basis, alpha, sigma, log_prior)
    if integral is None:
        raise ValueError(
            "the two classes must have common points and positive priors, or there is no integrand"
        )
    return integral[0].c, _ratio(integral[0], u)


def _values_when_decided(log_prior: Array) -> tuple[PairValues, PairValues]:
    """The values where nothing is left to decide: a class is absent, or no state belongs to both."""
    absent = np.isneginf(log_prior)
    zero = PairValues(0.0, 0.0, 0.0, 0.0, np.zeros(2))
    return zero._replace(per_class=np.where(absent, np.nan, 0.0)), zero


def _by_name(values: Array, log_prior: Array) -> PairValues:
    entropy, product, second, rate, first, other = values.tolist()
    return PairValues(entropy, 2 * product, second, rate, np.array([first, other]) / np.exp(log_prior))


def _line_and_end(
    basis: PairBasis, alpha: float, sigma: float, log_prior: Array
) -> tuple[Line, float] | None:
    """The line through the smallest value, and how far it is to be followed; None where all is decided."""
    if not np.isfinite(log_prior).all():
        return None
    coordinates = basis.at(alpha, sigma)
    if coordinates.log_overlap < _NOTHING:
        return None
    while True:
        line = _line(coordinates, log_prior)
        reached = _end_of_integrand(line)
        if reached < coordinates.far or coordinates.far >= FAR:
            return line, reached
        coordinates = basis.at(alpha, sigma, min(FAR, 2 * coordinates.far))


def _line(coordinates: Coordinates, log_prior: Array) -> Line:
    """The minimum over 0 < c < 1 of the integrand, a convex function of c, by bracketed Newton steps."""
    low, high, c = 0.0, 1.0, 0.5
    for _ in range(60):
        slope, bend = _derivatives(coordinates, log_prior, c)
        low, high = (c, high) if slope < 0 else (low, c)
        new = c - slope / bend
        new = new if low < new < high else 0.5 * (low + high)
        if abs(new - c) * np.sqrt(bend) < 1e-3:  # the value is flat here: nothing is gained by more digits
            break
        c = new
    value, size = _log_real(coordinates, log_prior, np.array([c]))
    return Line(coordinates, log_prior, c, float(value[0]), float(size[0]))


def _derivatives(coordinates: Coordinates, log_prior: Array, c: float) -> tuple[float, float]:
    """First and second derivative in c of the log of F/(a(1-a)) on the real axis."""
    mu, low, high, count, shift = coordinates[:5]
    mixed = (1 - c) * low + c * high
    r = 2 * mu / mixed
    log_low, log_high = coordinates.log_dets
    squares = shift / mixed
    slope = 0.5 * (log_high - log_low - count @ r) - 0.5 * squares @ (1 - 2 * c - c * (1 - c) * r)
    bend = 0.5 * count @ r**2 + squares @ (1 + (1 - 2 * c) * r - c * (1 - c) * r**2)
    tangent = np.pi / np.tan(np.pi * c)
    slope += log_prior[0] - log_prior[1] - tangent - 1 / c + 1 / (1 - c)
    bend += (np.pi / np.sin(np.pi * c)) ** 2 + 1 / c**2 + 1 / (1 - c) ** 2
    return float(slope), float(bend)


def _log_real(coordinates: Coordinates, log_prior: Array, c: Float[Array, " n"]) -> tuple[Array, Array]:
    """log of F/(a(1-a)) at real a = c, and its rounding error in units of float64's."""
    mu, low, high, count, shift = coordinates[:5]
    sides = coordinates.log_dets if coordinates.dense is not None else coordinates.log_sides * count
    value, size = np.empty((2, len(c)))
    for i, a in enumerate(c):
        mixed = (1 - a) * low + a * high
        sums = [
            0.5 * np.atleast_1d((1 - a) * sides[0] + a * sides[1]),
            -0.5 * count * _log_mixed(mu, mixed, a),
            -0.5 * a * (1 - a) * shift / mixed,
            np.array([a * log_prior[0], (1 - a) * log_prior[1]]),
            -np.log([np.sin(np.pi * a) / np.pi, a, 1 - a]),
        ]
        value[i] = sum(terms.sum() for terms in sums)
        # Each term is rounded by itself, and so is every sum.
        size[i] = sum(abs(terms.sum()) for terms in sums)
        weights = [np.ones_like(sums[0]) if coordinates.dense is not None else count, count, shift]
        size[i] += sum(coordinates.rounding(*pair) for pair in zip(sums[:3], weights, strict=True))
    return value, size


def _log_mixed(mu: Array, mixed: Array, c: float) -> Array:
    """log(1 + (2c-1)μ), to full precision for small μ."""
    moved = (2 * c - 1) * mu
    small = np.abs(moved) < 0.5
    return np.where(small, np.log1p(np.where(small, moved, 0.0)), np.log(mixed))


def _step(line: Line) -> float:
    """The step whose trapezoid rule errs by less than e^{-30} of the value.

    Term n errs by e^{-ns c} times the integral with (π_0/π_1) e^{ns}, s = 2π/h, which is at most
    F(c')/F(c) e^{-ns(c-c')} for every c' in (0, 1).
    """
    frequencies = []
    for end in (0.0, 1.0):
        places = line.c + (end - line.c) * _SHARES
        rise = _log_real(line.coordinates, line.log_prior, places)[0] - line.log_top
        frequencies.append(np.min((_COARSE_ERROR + np.maximum(rise, 0)) / np.abs(places - line.c)))
    return float(2 * np.pi / max(frequencies))


def _end_of_integrand(line: Line) -> float:
    """The u from which on the integrand is below e^{-40} of its largest value; at most where the sums hold."""
    levels = line.coordinates.far * np.geomspace(1, 1e-4, 60)
    log_modulus = np.log(np.abs(_ratio(line, levels)) + 1e-300)
    above = np.flatnonzero(log_modulus > -LEFT_OUT)
    return float(levels[max(above[0] - 1, 0)]) if len(above) else float(levels[-1])


def _ratio(line: Line, u: Float[Array, " n"]) -> Array:
    """F/(a(1-a)) at c + iu over its value at c."""
    a = line.c + 1j * u
    return np.exp(_log_weight(line, u)[0]) * _kernel(line.c, u) * (line.c * (1 - line.c) / (a * (1 - a)))


def _kernel(c: float, u: Float[Array, " n"]) -> Array:
    """sin(πc)/sin(π(c + iu)) at u >= 0, written without overflow."""
    turn = np.exp(1j * np.pi * c)
    return 2j * np.sin(np.pi * c) * np.exp(-np.pi * u) / (turn * np.exp(-2 * np.pi * u) - 1 / turn)


def _log_weight(line: Line, u: Float[Array, " n"]) -> tuple[Array, Array]:
    """log of π_0^a π_1^{1-a} C(a) at c + iu over its value at c, and d log C/d log(σ²/α²) over ½a(1-a), (n,) each."""
    blocks = [_log_weight_of(line, part) for part in _parts(u, len(line.coordinates.count))]
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))  # type: ignore[return-value]


def _parts(u: Array, coordinates: int) -> list[Array]:
    """u in pieces whose products with the coordinates fit into the cache's neighbourhood."""
    rows = max(1, _NODES_AT_ONCE // coordinates)
    return [u[start : start + rows] for start in range(0, len(u), rows)]


def _log_weight_of(line: Line, u: Float[Array, " n"]) -> tuple[Array, Array]:
    mu, low, high, count, shift = line.coordinates[:5]
    mixed = (1 - line.c) * low + line.c * high
    x = u[:, None] * (2 * mu / mixed)
    fall = 1 / (1 + x * x)
    log_low, log_high = line.coordinates.log_dets
    slope = line.log_prior[0] - line.log_prior[1] + 0.5 * (log_high - log_low)
    log_modulus = -0.25 * np.log1p(x * x) @ count
    phase = u * slope - 0.5 * np.arctan(x) @ count
    squares = shift / mixed
    product = (line.c + 1j * u) * (1 - line.c - 1j * u)
    over = fall @ squares - 1j * ((x * fall) @ squares)  # Σ each/(1 + ix)
    quadratic = -0.5 * (product * over - line.c * (1 - line.c) * squares.sum())
    return log_modulus + 1j * phase + quadratic, _growth(line, u, x, fall)


def _growth(line: Line, u: Float[Array, " n"], x: Float[Array, "n m"], fall: Float[Array, "n m"]) -> Array:
    """σ²[Σ 4μ²/(low high A) + ‖A⁻¹Δ‖²] with A = mixed (1 + ix), Δ the difference of the means."""
    mu, low, high, _, _, count_noise, shift_noise = line.coordinates[:7]
    dense = line.coordinates.dense
    mixed = (1 - line.c) * low + line.c * high
    turned = x * fall
    if dense is None:
        spreads = count_noise * (2 * mu) ** 2 / (low * high * mixed)
        drift = shift_noise / mixed**2
        # 1/(1+ix)² = fall² (1-ix)²
        growth = fall @ spreads + (fall * (2 * fall - 1)) @ drift
        return growth - 1j * (turned @ spreads + 2 * ((fall * turned) @ drift))
    moved = (fall - 1j * turned) * (dense.step / mixed)
    drift = np.einsum("ni,ni->n", moved @ dense.gram, moved)
    if min(low.min(), high.min()) > _SINGULAR:
        spreads = count_noise * (2 * mu) ** 2 / (low * high * mixed)
        return drift + fall @ spreads - 1j * (turned @ spreads)
    # The same sum is [(1-a) tr Σ_0⁻¹ + a tr Σ_1⁻¹ - tr A⁻¹]/(a(1-a)), which needs no digits of 1 ± μ.
    a = line.c + 1j * u
    spreads = count_noise / mixed
    traces = (1 - a) * dense.traces[0] + a * dense.traces[1] - (fall @ spreads - 1j * (turned @ spreads))
    return drift + traces / (a * (1 - a))


def _growth_size(line: Line) -> float:
    """Rounding error of d log C/d log(σ²/α²) at u = 0 over ½a(1-a), in units of float64's."""
    mu, low, high, _, _, count_noise, shift_noise = line.coordinates[:7]
    mixed = (1 - line.c) * low + line.c * high
    if line.coordinates.dense is not None and min(low.min(), high.min()) <= _SINGULAR:
        return float(line.coordinates.dense.traces.sum()) / (line.c * (1 - line.c))
    widths, steps = count_noise * (2 * mu) ** 2 / (low * high * mixed), shift_noise / mixed**2
    return line.coordinates.rounding(widths, count_noise) + line.coordinates.rounding(steps, shift_noise)


def _terms(line: Line, u: Float[Array, " n"]) -> Float[Array, "n 6"]:
    """The integrands of `PairValues` in the order of `_by_name`, over the top of the entropy's."""
    a = line.c + 1j * u
    log_ratio, growth = _log_weight(line, u)
    product = a * (1 - a)
    ratio = np.exp(log_ratio) * _kernel(line.c, u) * (line.c * (1 - line.c) / product)
    first, other = ratio * a, ratio * (1 - a)
    second = -2 * ((np.euler_gamma + psi(1 - a)) * first + (np.euler_gamma + psi(a)) * other)
    columns = [ratio, ratio * product, second, 0.5 * ratio * product * growth, first, other]
    return np.stack([column.real for column in columns], axis=1)


def _bayes_terms(line: Line, u: Float[Array, " n"]) -> Array:
    """The Bayes error's integrand over the top of the entropy's."""
    c, a = line.c, line.c + 1j * u
    shape = c * (1 - c) * np.sin(np.pi * c) / np.pi
    return np.exp(_log_weight(line, u)[0]) * shape / (a * (1 - a))
