r"""Whether a wrapped network acts like a posterior mean: checks that a wrong wrapper does not pass.

For every law of the data, D = E[x_0 | x_t] satisfies, with l = σ/α and x_t = α x_0 + σ ε::

    much noise     D(x, c) → E[x_0 | c]: nearly the same for all x
    little noise   E‖x_t/α - D‖² ≤ l² per coordinate
    all levels     E‖x_0 - D‖² is at most the error of the best linear estimator, l² s²/(l² + s²) per coordinate
                   E[(x_0 - D)·D] = 0 and E[(x_0 - D)·(x_t/α - D)] = 0

The first two need no data. The others hold on data, and also on the network's own samples, which then stand for x_0: a
right network denoises what it generates. They are evaluated at levels around the standard deviation of x_0 within a
class, where a network that was trained for a minute satisfies them within the tolerances below. Most wrong signs, most
outputs taken for others and times in other units violate them already on the network's own samples; a slip that turns
one law into another one, such as a missing division by α, shows on data only.
"""

import dataclasses
import functools
import operator
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray

from gmm.checks import check_count, check_finite
from neural.denoiser import Denoiser, FunctionDenoiser, encode, state_dtype, state_shape
from neural.estimators import calibration
from neural.predictions import to_x0
from neural.samplers import edm_times

OK, FAIL, SKIPPED = "ok", "fail", "skipped"
CLASSES = 4  # conditions that are checked, spread over all; each costs evaluations
LEVELS = (
    0.3,
    0.5,
    1.0,
    2.0,
)  # levels σ/α of the statistics, in units of the standard deviation of x_0 within a class
LOW, HIGH, LOWER_HIGH = 0.02, 80.0, 5.0  # range of levels of the sampler, and the top of a second attempt
# Tolerances, beside the statistical error of each statistic (its `STDERRS` standard errors).
STDERRS = 3.0
CONSTANT = (
    3.0  # variation of D at much noise, in units of the samples' standard deviation; a coarse network has 2
)
INFORMATION = 0.03  # nats claimed at much noise beyond those of the class means
EXCESS = 0.15  # relative excess over a bound
CORRELATION = 0.2  # size of a regression coefficient that should vanish
POSTERIOR = 0.1  # overconfidence on data, in units of the prior entropy
_NEVER = 9  # more changes of a wrapper than are tried
_TINY = 1e-30  # keeps quotients of vanishing predictions finite
# A correction is tried in full where D on `2 * CLASSES` states, by a sampler of `FEW_STEPS` steps, is not far off: at
# much noise its variation is below this part of the noise level, at little noise it differs from x/α by less than this
# many times the noise. Wrong conversions are off by the noise level itself, and by 50 times the noise.
FEW_STEPS, PART_OF_LEVEL, FAR = 6, 0.25, 10.0
MATCH = 0.1  # relative difference between the measured ratio of two scales and a known one


@dataclasses.dataclass(frozen=True)
class CheckRow:
    """One check: its name, "ok", "fail" or "skipped", the number behind it, and what it means."""

    name: str
    verdict: str
    value: float
    meaning: str


@dataclasses.dataclass(frozen=True)
class DenoiserCheck:
    """The result of `check_denoiser`; `print` shows a table."""

    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(row.verdict != FAIL for row in self.rows)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{r.verdict:<7}  {r.name:<{width}}  {r.value:>9.3g}  {r.meaning}" for r in self.rows]
        return "\n".join(lines)


def check_denoiser(
    model: Any,
    x0: Float[ArrayLike, "m ..."] | None = None,
    y: Int[ArrayLike, " m"] | None = None,
    *,
    conditions: Sequence[Any] | None = None,
    samples: int = 64,
    steps: int = 24,
    key: PRNGKeyArray | None = None,
) -> DenoiserCheck:
    """A table of checks, each with a verdict, that a right denoiser passes and a wrong wrapper does not.

    Args:
        model: a `Denoiser` or a `neural.Model`.
        x0: (m, ...) data in the model's coordinates, or None for the checks that need no data.
        y: (m,) condition of each point, a value of `conditions`; None for an unconditional model.
        conditions: the conditions to use, for models of prompts; by default four of the model's own.
        samples: number of states at each noise level.
        steps: number of steps of the sampler that makes the model's own samples.
        key: JAX random key; by default key 0.

    Raises:
        ValueError: when x0 has another shape, y does not match it, or a model of prompts comes without conditions.
    """
    denoiser = getattr(model, "denoiser", model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetworkWarning)
        probe = _probe(denoiser, getattr(model, "grid", None), conditions, samples, steps, key)
        data = None if x0 is None else _data(probe, x0, y)
        rows = list(_rows(probe, data))
        if any(row.verdict == FAIL for row in rows):
            rows.append(_diagnosis(probe, data, rows))
    return DenoiserCheck(tuple(rows))


class NetworkWarning(UserWarning):
    """A wrapped network does not act like a posterior mean."""


_CHECKED: "weakref.WeakSet[Any]" = weakref.WeakSet()


def warn_once(denoiser: FunctionDenoiser) -> None:
    """Warn, at the first call for this denoiser, where both ends of the noise axis show a wrong wrapper."""
    if denoiser in _CHECKED:
        return
    _CHECKED.add(denoiser)
    with jax.ensure_compile_time_eval():
        rows = list(_ends(_probe(denoiser, None, None, samples=2 * CLASSES, steps=12, key=None)))
    if failed := [row.meaning for row in rows if row.verdict == FAIL]:
        warnings.warn(
            f"the network does not act like a posterior mean: {'; '.join(failed)}. "
            "print(neural.check_denoiser(model)) shows more",
            NetworkWarning,
            stacklevel=3,
        )


# ------------------------------------------------------------------------------------------------- what is probed


@dataclasses.dataclass(frozen=True, eq=False)
class _Probe:
    """A denoiser with the states that it is evaluated on.

    Attributes:
        denoiser: the denoiser.
        conditions: the K conditions as given, or [None] for an unconditional model.
        encoded: the same, encoded; None for an unconditional model.
        z: (n,) position of each state's condition.
        noise: (n, ...) standard normal noise of the sampler, and of the states at each level.
        times: (T,) falling times of the sampler.
    """

    denoiser: Denoiser
    conditions: list[Any]
    encoded: Any
    z: np.ndarray
    noise: tuple[Any, Any]
    times: np.ndarray

    def denoise(self, x: Any, t: float, z: np.ndarray) -> np.ndarray:
        """D (n, d) of flat states (n, d) under the conditions at the positions z, float64."""
        x = jnp.asarray(x, self.noise[0].dtype).reshape(self.noise[0].shape)
        denoised = self.denoiser.denoise(x, jnp.asarray(t, x.dtype), self.condition(z))
        return np.asarray(denoised, np.float64).reshape(len(x), -1)

    def condition(self, z: np.ndarray) -> Any:
        """The encoded conditions at the positions z; None for an unconditional model."""
        return None if self.encoded is None else jax.tree.map(lambda leaf: leaf[jnp.asarray(z)], self.encoded)

    def scales(self, t: float) -> tuple[float, float]:
        """α and σ at t."""
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            return float(self.denoiser.process.alpha(t)), float(self.denoiser.process.sigma(t))

    def noised(self, x0: np.ndarray, t: float) -> np.ndarray:
        """States (n, d) at t of the clean points (n, d)."""
        alpha, sigma = self.scales(t)
        return alpha * x0 + sigma * np.asarray(self.noise[1], np.float64).reshape(len(x0), -1)

    def time_at(self, level: float) -> float:
        """The time at which σ/α is `level`, or the nearest within the sampler's range."""
        process = self.denoiser.process
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            t = float(process.time_at_log_snr(-2 * np.log(level)))
        return float(np.clip(t, self.times[-1], self.times[0]))

    def from_level(self, high: float) -> "_Probe":
        """The same with a sampler that starts at σ/α = `high`."""
        alpha, sigma = self.scales(self.times[-1])
        times = edm_times(self.denoiser.process, len(self.times), sigma_min=sigma / alpha, sigma_max=high)
        return dataclasses.replace(self, times=times)

    def few(self) -> "_Probe":
        """The same with few states and a sampler of few steps."""
        levels = [sigma / alpha for alpha, sigma in map(self.scales, (self.times[-1], self.times[0]))]
        times = edm_times(self.denoiser.process, FEW_STEPS, sigma_min=levels[0], sigma_max=levels[1])
        n = 2 * CLASSES
        return dataclasses.replace(
            self, z=self.z[:n], noise=(self.noise[0][:n], self.noise[1][:n]), times=times
        )

    @functools.cached_property
    def own_samples(self) -> np.ndarray:
        """(n, d) samples of the denoiser itself, by Heun's method in the coordinate x/α (one step at a time)."""
        levels = [sigma / alpha for alpha, sigma in map(self.scales, self.times)]
        x = levels[0] * np.asarray(self.noise[0], np.float64).reshape(len(self.z), -1)

        def slope(x: np.ndarray, place: int) -> np.ndarray:
            t = self.times[place]
            if not np.isfinite(x).all():  # a function may refuse such states
                return x
            return (x - self.denoise(self.scales(t)[0] * x, t, self.z)) / levels[place]

        for place in range(len(levels) - 1):
            step, first = levels[place + 1] - levels[place], slope(x, place)
            x = x + step * (first + slope(x + step * first, place + 1)) / 2
            if not np.isfinite(x).all():
                return x
        return x - levels[-1] * slope(x, len(levels) - 1)


def _probe(
    denoiser: Denoiser, grid: Any, conditions: Any, samples: int, steps: int, key: PRNGKeyArray | None
) -> _Probe:
    check_count("samples", samples, 2 * CLASSES)
    check_count("steps", steps, 2)
    known = denoiser.conditions if conditions is None else conditions
    if known is None:
        raise ValueError("conditions must be given for a model of prompts; pass two prompts or more")
    known = list(known)
    chosen = (
        [known[i] for i in np.unique(np.linspace(0, len(known) - 1, CLASSES).astype(int))] if known else []
    )
    low, high = (LOW, HIGH) if grid is None else (max(grid.sigma_min, LOW), grid.sigma_max)
    shape, dtype = state_shape(denoiser), state_dtype(denoiser)
    keys, size = jax.random.split(jax.random.key(0) if key is None else key), (samples, *shape)
    return _Probe(
        denoiser=denoiser,
        conditions=chosen or [None],
        encoded=encode(denoiser, chosen) if chosen else None,
        z=np.arange(samples) % max(len(chosen), 1),
        noise=(jax.random.normal(keys[0], size, dtype), jax.random.normal(keys[1], size, dtype)),
        times=edm_times(denoiser.process, steps, sigma_min=low, sigma_max=high),
    )


def _data(probe: _Probe, x0: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) of the checked conditions and the positions (n,) of theirs."""
    x0, shape = np.asarray(x0, np.float64), tuple(probe.noise[0].shape[1:])
    if x0.shape[1:] != shape or len(x0) < 2:
        raise ValueError(f"x0 must have shape (m, {', '.join(map(str, shape))}) with m >= 2, got {x0.shape}")
    check_finite("x0", x0)
    if (y is None) != (probe.encoded is None):
        raise ValueError(
            "y must hold the condition of each point of x0, and be None for an unconditional model"
        )
    if y is None:
        z = np.zeros(len(x0), int)
    else:
        y = np.asarray(y)
        if y.shape != (len(x0),):
            raise ValueError(f"y must have shape ({len(x0)},), one condition per point, got {y.shape}")
        z = np.full(len(y), -1)
        for position, condition in enumerate(probe.conditions):
            z[y == condition] = position
    places = np.flatnonzero(z >= 0)
    if any(np.sum(z == c) < 2 for c in range(len(probe.conditions))):
        raise ValueError(f"x0 must hold two points or more of each of the conditions {probe.conditions}")
    places = np.resize(np.random.default_rng(0).permutation(places), max(len(places), len(probe.z)))
    return x0[places].reshape(len(places), -1), z[places]


# ----------------------------------------------------------------------------------------------------- the checks


def _rows(probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None) -> Iterator[CheckRow]:
    if not np.isfinite(probe.own_samples).all():
        bad = float(np.mean(~np.isfinite(probe.own_samples)))
        yield CheckRow("finite", FAIL, bad, "share of the model's own samples that is not finite")
        return
    yield from _ends(probe)
    yield from _denoising(probe, "own samples", probe.own_samples, probe.z)
    if data is not None:
        n = len(probe.z)
        yield _scale(probe.own_samples, data[0])
        yield from _denoising(probe, "data", data[0][:n], data[1][:n])
        yield from _posterior(probe, data)


def _ends(probe: _Probe) -> Iterator[CheckRow]:
    """The checks at the two ends of the noise axis."""
    yield _much_noise(probe, probe.own_samples)
    yield _information(probe)
    yield _little_noise(probe, probe.own_samples)


def _much_noise(probe: _Probe, samples: np.ndarray) -> CheckRow:
    alpha, sigma = probe.scales(probe.times[0])
    denoised = probe.denoise(probe.noised(0 * samples, probe.times[0]), probe.times[0], probe.z)
    spread = np.sqrt(np.mean(_within(denoised, probe.z) ** 2))
    scale = np.sqrt(np.mean((samples - samples.mean(0)) ** 2))
    # D moves by (α/σ) C ε, C the covariance within a class: (a·b)² of independent differences estimates tr C².
    a, b = _within(samples, probe.z)[::2], _within(samples, probe.z)[1::2]
    pairs = np.einsum("id,jd->ij", a, b[: len(a)])
    expected = alpha / sigma * np.sqrt(np.mean(pairs**2) / samples.shape[1])
    ratio = float(spread / max(scale, 1e-300))
    fails = not spread <= CONSTANT * scale + STDERRS * expected
    reason = (
        f"at σ/α = {sigma / alpha:.3g}, D varies with x by {ratio:.2g} standard deviations of the samples, but should "
        "be nearly constant"
    )
    return CheckRow(
        "much noise", FAIL if fails else OK, ratio, reason if fails else "variation of D at much noise"
    )


def _information(probe: _Probe) -> CheckRow:
    """½γ E Σ_c π_c ‖D_c(x) - D(x)‖² against ½γ Σ_c π_c ‖E D_c - E D‖²: what x adds must not exceed the means."""
    name, count = "information", len(probe.conditions)
    if count < 2:
        return CheckRow(name, SKIPPED, np.nan, "needs two conditions or more")
    alpha, sigma = probe.scales(probe.times[0])
    x, n = probe.noised(0 * probe.own_samples, probe.times[0]), len(probe.z)
    by_class = np.stack([probe.denoise(x, probe.times[0], np.full(n, c)) for c in range(count)], axis=1)
    differences = by_class - by_class.mean(1, keepdims=True)
    half_snr = 0.5 * (alpha / sigma) ** 2
    claimed = half_snr * np.sum(differences**2, axis=(1, 2)) / count
    first, second = differences[: n // 2].mean(0), differences[n // 2 :].mean(0)
    means = half_snr * float(np.sum(first * second)) / count
    excess, stderr = float(claimed.mean() - means), float(claimed.std(ddof=1) / np.sqrt(n))
    fails = not excess <= INFORMATION + STDERRS * stderr or not np.isfinite(excess)
    reason = (
        f"at σ/α = {sigma / alpha:.3g}, D claims {claimed.mean():.2g} nat about the condition, its class means hold "
        f"{means:.2g}; the rest is an error of D, multiplied by its conversion"
    )
    return CheckRow(
        name,
        FAIL if fails else OK,
        excess,
        reason if fails else "nats claimed at much noise beyond the means",
    )


def _little_noise(probe: _Probe, samples: np.ndarray) -> CheckRow:
    t = probe.times[-1]
    alpha, sigma = probe.scales(t)
    x = probe.noised(samples, t)
    denoised = probe.denoise(x, t, probe.z)
    squares = np.mean((x / alpha - denoised) ** 2, axis=1) / (sigma / alpha) ** 2
    ratio = float(np.sqrt(squares.mean()))
    fails = not squares.mean() <= 1 + EXCESS + STDERRS * squares.std(ddof=1) / np.sqrt(len(squares))
    reason = f"at σ/α = {sigma / alpha:.3g}, D differs from x/α by {ratio:.2g} times the noise; it should be at most 1"
    return CheckRow(
        "little noise", FAIL if fails else OK, ratio, reason if fails else "‖x/α - D‖ in units of the noise"
    )


def _denoising(probe: _Probe, of: str, x0: np.ndarray, z: np.ndarray) -> Iterator[CheckRow]:
    """Error and orthogonality of D on noised points, at the worst of `LEVELS`."""
    if np.mean(_within(x0, z) ** 2) < LOW**2:
        yield CheckRow(of, SKIPPED, np.nan, "the points of a class are equal: there is nothing to denoise")
        return
    error, cross, slope, levels = _statistics(probe, x0, z)
    yield _worst(
        f"{of}: error", error, levels, "error of D over the best linear estimator's; should be at most 1"
    )
    yield _worst(f"{of}: residual", cross, levels, "regression of x_0 - D on x/α - D; should be 0")
    # At more noise than the data's own scale, D is mostly the mean, and a trained network's error outweighs the rest.
    yield _worst(f"{of}: slope", slope[:-1], levels[:-1], "regression of x_0 - D on D; should be 0")


def _statistics(
    probe: _Probe, x0: np.ndarray, z: np.ndarray
) -> tuple[list[Any], list[Any], list[Any], list[float]]:
    """Error, residual and slope at each of `LEVELS`, as (value, excess) pairs, and the levels σ/α."""
    variance = np.mean(_within(x0, z) ** 2)
    error, cross, slope, levels = [], [], [], []
    for t in [probe.time_at(r * np.sqrt(variance)) for r in LEVELS]:
        alpha, sigma = probe.scales(t)
        x, square = probe.noised(x0, t), (sigma / alpha) ** 2
        denoised = probe.denoise(x, t, z)
        residual, moved, signal = x0 - denoised, x / alpha - denoised, _within(denoised, z)
        linear = square * variance / (square + variance)
        error.append(_excess(np.mean(residual**2, axis=1) / linear, 1.0, EXCESS))
        cross.append(
            _excess(np.mean(residual * moved, axis=1) / (np.mean(moved**2) + _TINY), 0.0, CORRELATION)
        )
        slope.append(
            _excess(np.mean(residual * signal, axis=1) / (np.mean(signal**2) + _TINY), 0.0, CORRELATION)
        )
        levels.append(sigma / alpha)
    return error, cross, slope, levels


def _excess(values: np.ndarray, wanted: float, tolerance: float) -> tuple[float, float]:
    """The mean, and by how much it misses its bound (1, from above) or value (0) beyond tolerance and error."""
    mean, stderr = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    distance = mean - wanted if wanted else abs(mean)
    return mean, distance - tolerance - STDERRS * stderr


def _worst(
    name: str, results: Sequence[tuple[float, float]], levels: Sequence[float], meaning: str
) -> CheckRow:
    over = [np.inf if np.isnan(excess) else excess for _, excess in results]
    place = int(np.argmax(over))
    value = results[place][0]
    if over[place] <= 0:
        return CheckRow(name, OK, value, meaning)
    return CheckRow(name, FAIL, value, f"at σ/α = {levels[place]:.3g}: {value:.3g}, {meaning}")


def _scale(samples: np.ndarray, x0: np.ndarray) -> CheckRow:
    """Standard deviation of the model's samples over that of the data, and a known ratio that it matches."""
    ratio = float(np.sqrt(np.mean((samples - samples.mean(0)) ** 2) / np.mean((x0 - x0.mean(0)) ** 2)))
    shift = float(abs(samples.mean() - x0.mean()) / x0.std())
    if abs(np.log(ratio)) < np.log(1.5) and shift < 1.0:
        return CheckRow(
            "data: scale", OK, ratio, "standard deviation of the model's samples over that of the data"
        )
    known = {
        1 / 127.5: "x0 are images in 0..255 where the model takes -1..1",
        2.0: "x0 are images in 0..1 where the model takes -1..1",
        0.5: "x0 are images in -1..1 where the model takes 0..1",
        0.18215: "x0 are latents without the factor 0.18215 of the autoencoder",
        1
        / 0.18215: "x0 are latents with the factor 0.18215 of the autoencoder, and the model takes them without",
    }
    near = [words for known_ratio, words in known.items() if abs(ratio / known_ratio - 1) < MATCH]
    words = near[0] if near else "x0 are in other units or have another mean than the model's states"
    return CheckRow("data: scale", FAIL, ratio, f"{words} (ratio of the standard deviations {ratio:.3g})")


def _posterior(probe: _Probe, data: tuple[np.ndarray, np.ndarray]) -> list[CheckRow]:
    if len(probe.conditions) < 2:
        return []
    x0, z = data
    result = calibration(
        probe.denoiser, probe.conditions, (x0.reshape(-1, *probe.noise[0].shape[1:]), z),
        key=jax.random.key(1), samples=min(len(x0), 2 * len(probe.z)), times=probe.times, labels="positions",
    )  # fmt: skip
    excess = result.excess
    place = int(np.argmax(np.abs(excess.value) - STDERRS * excess.stderr))
    passes = result.passes(POSTERIOR, STDERRS)
    meaning = "cross-entropy minus entropy of the tracked posterior on data, nats; positive is overconfident"
    return [CheckRow("data: posterior", OK if passes else FAIL, float(excess.value[place]), meaning)]


# ------------------------------------------------------------------------------------------------ what went wrong


def _diagnosis(probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None, rows: list[CheckRow]) -> CheckRow:
    """Which correction of the wrapper passes all checks, or which way out the failed checks suggest."""
    failed = {row.name for row in rows if row.verdict == FAIL}
    # The fewest changes; of these, the one under which D denoises its own samples best.
    fits = [_fit(probe, data, "", _amplifies(probe.denoiser))]
    fits += [
        _fit(dataclasses.replace(probe, denoiser=corrected), data, words, amplifies)
        for words, corrected, amplifies in _corrections(probe.denoiser)
    ]
    changes, _, words = min(fits)
    if changes == _NEVER and "data: scale" in failed and all(name.startswith("data") for name in failed):
        words = "the model agrees with its own samples and not with x0: rescale x0"
    elif changes == _NEVER:
        words = "no known slip of a sign, a scale or a time explains it"
    return CheckRow("diagnosis", FAIL, np.nan, words)


def _fit(
    probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None, words: str, amplifies: bool
) -> tuple[int, float, str]:
    """How many changes make the checks pass (`_NEVER` if none do), the error of D on own samples, and the advice."""
    if words and _passes(probe, data):
        return 1, _own_error(probe), words
    other = _without_much_noise(probe, data) if amplifies else None
    if other is None or not _passes(other, data):
        return _NEVER, np.inf, words
    low, high = (x0 := other.own_samples if data is None else data[0]).min(), x0.max()
    advice = (
        "the conversion multiplies the network's error at much noise: pass the range of the data as data_range=(low, "
        f"high), ({low:.2g}, {high:.2g}) by these samples, or times that start at a smaller noise level"
    )
    return 1 + bool(words), _own_error(other), f"{words}; then {advice}" if words else advice


def _own_error(probe: _Probe) -> float:
    return float(np.mean([error for error, _ in _statistics(probe, probe.own_samples, probe.z)[0]]))


def _without_much_noise(probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None) -> _Probe | None:
    """The probe with D clipped to the data; without data, from three standard deviations of its samples on."""
    if data is not None:
        ends = (float(data[0].min()), float(data[0].max()))
        clipped = _as_function(probe.denoiser, probe.denoiser.denoise, ends)
        return dataclasses.replace(probe, denoiser=clipped)
    with np.errstate(all="ignore"):
        scale = float(probe.few().from_level(LOWER_HIGH).own_samples.std())
    return probe.from_level(3 * scale) if 10 * LOW < scale < HIGH else None


def _as_function(
    denoiser: Denoiser, function: Callable[..., Any], data_range: tuple[float, float] | None = None
) -> FunctionDenoiser:
    """A function of x, t and an encoded condition as a denoiser like `denoiser`."""
    return FunctionDenoiser(
        function, denoiser.process, tuple(denoiser.conditions or ()), state_shape(denoiser), True, False,
        data_range=data_range,
    )  # fmt: skip


def _passes(probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Whether no check fails; a correction that cannot be evaluated fails."""
    with np.errstate(all="ignore"):
        try:
            rows = (
                _rows(probe, data) if _plausible(probe, data) else [CheckRow("plausible", FAIL, np.nan, "")]
            )
            return all(row.verdict != FAIL for row in rows)
        except (ValueError, FloatingPointError):
            return False


def _plausible(probe: _Probe, data: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Whether D may be a posterior mean, by few evaluations: a full check of every correction would take minutes."""
    if data is not None:
        n = len(probe.z)
        return all(row.verdict != FAIL for row in _denoising(probe, "data", data[0][:n], data[1][:n]))
    few = probe.few()
    alpha, sigma = few.scales(few.times[0])
    noise = sigma * np.asarray(few.noise[1], np.float64).reshape(len(few.z), -1)
    spread = np.sqrt(np.mean(_within(few.denoise(noise, few.times[0], few.z), few.z) ** 2))
    if not spread < PART_OF_LEVEL * sigma / alpha or not np.isfinite(few.own_samples).all():
        return False
    return _little_noise(few, few.own_samples).value < FAR


def _amplifies(denoiser: Denoiser) -> bool:
    """Whether the conversion may multiply the network's error by σ/α: that of eps, or one that the user wrote."""
    used = getattr(denoiser, "prediction", "x0")
    return used == "eps" or (used == "x0" and not hasattr(denoiser, "null"))


def _corrections(denoiser: Denoiser) -> list[tuple[str, FunctionDenoiser, bool]]:
    """What the wrapper may have meant: a sentence for the user, the denoiser that it would be, and `_amplifies`."""
    process = denoiser.process
    used = getattr(denoiser, "prediction", "x0")
    sigma_data = getattr(denoiser, "sigma_data", 0.5)
    raw = denoiser.output if isinstance(denoiser, FunctionDenoiser) else denoiser.denoise

    def reads(
        prediction: str, sign: float = 1.0, time: Callable[[Any], Any] = lambda t: t
    ) -> Callable[..., Any]:
        return lambda x, t, c: to_x0(prediction, process, x, t, sign * raw(x, time(t), c), sigma_data)

    kept = _amplifies(denoiser)
    others = [p for p in ("eps", "v", "velocity", "x0", "F") if p != used]
    corrections = [
        (f'the network predicts "{p}": pass prediction="{p}"', reads(p), p == "eps") for p in others
    ]
    words = f'the output has the wrong sign for prediction="{used}": negate it'
    corrections.append((words, reads(used, -1.0), kept))
    opposite = [p for p in ("velocity", "v", "eps") if p != used]
    corrections += [
        (f'the network predicts "{p}" with the opposite sign', reads(p, -1.0), p == "eps") for p in opposite
    ]
    if used == "x0":
        corrections += [(*slip, kept) for slip in _slips(process, raw)]
    if used != "x0" or hasattr(denoiser, "null"):
        corrections += [(*time, kept) for time in _other_times(process, functools.partial(reads, used))]
    return [
        (words, _as_function(denoiser, function), amplifies) for words, function, amplifies in corrections
    ]


def _other_times(process: Any, reads: Callable[..., Any]) -> list[tuple[str, Callable[..., Any]]]:
    """Times in other units, and a time that runs from noise to data."""
    corrections = []
    for factor in (1000.0, 0.001):
        words = f"the network takes the time in other units: pass time=lambda t: {factor:g} * t"
        corrections.append((words, reads(time=functools.partial(operator.mul, factor))))
    if np.isfinite(process.t_max):
        ends = process.t_min + process.t_max
        for sign in (1.0, -1.0):
            words = f"the network's time runs the other way: pass time=lambda t: {ends:g} - t"
            words += "" if sign > 0 else ", and negate its output"
            corrections.append((words, reads(sign, functools.partial(operator.sub, ends))))
    return corrections


def _slips(process: Any, denoise: Callable[..., Any]) -> list[tuple[str, Callable[..., Any]]]:
    """Slips in a conversion that the user wrote: D as returned, and what it should have been."""

    def corrected(of: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, t, c: of(x, denoise(x, t, c), process.alpha(t), process.sigma(t))

    return [
        ("the noise has the wrong sign: D = (x - σ eps)/α", corrected(lambda x, d, a, _: 2 * x / a - d)),
        ("the velocity has the wrong sign: D = x - t u", corrected(lambda x, d, *_: 2 * x - d)),
        ("the division by α is missing: D = (x - σ eps)/α", corrected(lambda _, d, a, __: d / a)),
        (
            "σ² stands where σ belongs: D = (x - σ eps)/α",
            corrected(lambda x, d, a, s: (x - (x - a * d) / s) / a),
        ),
        (
            "the function returns the score: D = (x + σ² score)/α",
            corrected(lambda x, d, a, s: (x + s**2 * d) / a),
        ),
    ]


def _within(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x minus the mean of its class, scaled so that mean squares are unbiased variances within classes."""
    counts = np.bincount(z)
    means = np.stack([x[z == c].mean(0) if counts[c] else np.zeros(x.shape[1]) for c in range(len(counts))])
    return (x - means[z]) * np.sqrt(len(x) / max(len(x) - np.sum(counts > 0), 1))
