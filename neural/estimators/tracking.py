r"""Trajectories of noisy states and, along them, the posterior of the class: one step serves everything.

With γ = (α/σ)², from t to an earlier time s (`gmm.reverse_kernel`: r = γ_t/γ_s, v = σ_s²(1-r)) and any `drive` in
the place of x_0::

    x_s = a x_t + b drive + √v ε                  b = α_s (1-r)
    log w_c += log N(x_s; a x_t + b D_c, v) + const = κ ε·Δ_c - ½ κ² ‖Δ_c‖²     Δ_c = D_c - drive,  κ² = γ_s - γ_t

since class, x_s and x_t form a Markov chain. The second form holds no large numbers that cancel. What drives
decides what is sampled::

    D_z        the model's own chain (η = 1) of a class z drawn from the prior: the marginal, exactly
    D_w        the guided chain; the posterior stays that of the unguided one
    x_0        data noised forward: bridges to x_0, exact for steps of any length
    D_mix, D_∅ the posterior's mean, or the unconditional network: correct to first order in the step

Only η = 1 will do: with reverse noise λg the increments are those of a process whose information rate is
((1+λ²)/2λ)² times as large, and deterministic paths are certain at once.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from gmm.dynamics import reverse_kernel
from gmm.entropy import schedule
from gmm.guidance import gap_of, steer
from gmm.mixture import log_normalise
from gmm.process import Process
from neural.denoiser import Conditions, denoise_each, from_pytree
from neural.estimators.trackers import Decision, columns

DRIVES = ("class", "mixture", "unconditional")
STARTS = ("state", "prior")
# Numbers of a trajectory's random draws that are not those of a step.
_CLASS, _FIRST = 2**30, 2**30 + 1


class Rows(NamedTuple):
    """One row for each evaluation of the denoiser, (T,) each or (1 + T,) with a setting up of the start.

    Attributes:
        t, alpha, sigma: the time and the process there; level: σ/α; half_snr: γ/2.
        state, clean, deviation: x_s = state x_t + clean drive + deviation ε.
        along, square: log w_c += along ε·Δ_c - ½ square ‖Δ_c‖².
        start_along, start_square: the same for what the first state itself says; zero in other rows.
        setup: whether the row only sets up the first state.
        number: of the step, for its noise.
    """

    t: Any
    alpha: Any
    sigma: Any
    level: Any
    half_snr: Any
    state: Any
    clean: Any
    deviation: Any
    along: Any
    square: Any
    start_along: Any
    start_square: Any
    setup: Any
    number: Any


def make_rows(
    process: Process, times: np.ndarray, *, start: str, variance: float, on_data: bool, given: bool
) -> Rows:
    """The table of a chain, in float64 on the host.

    Args:
        process: forward process.
        times: (T,) falling times with finite log-SNR.
        start: "prior" or "state": what the log-weights start from.
        variance: within-class variance s² that the kernel is to know of; x_0 given x_t and a class then has
            variance s²/(1+γs²) rather than none.
        on_data: whether x_0 drives: the noise of its bridges is v, whatever the tracker takes it for.
        given: whether the first states are handed in.
    """
    grid = schedule(process, times)
    with jax.enable_x64(True):
        kernel = jax.jit(reverse_kernel)(process, jnp.asarray(times[:-1]), jnp.asarray(times[1:]))
    state, clean, bridge = (np.asarray(part, np.float64) for part in kernel)
    snr = np.exp(grid.log_snr)
    wide = bridge + clean**2 * variance / (1 + snr[:-1] * variance)
    deviation = np.sqrt(bridge if on_data else wide)
    none = np.zeros(len(times))
    carried = 1 + snr[0] * variance if start == "state" else 0.0
    rows = Rows(
        t=grid.t, alpha=grid.alpha, sigma=grid.sigma, level=np.exp(-0.5 * grid.log_snr), half_snr=snr / 2,
        state=np.append(state, 1.0), clean=np.append(clean, 0.0), deviation=np.append(deviation, 0.0),
        along=np.append(deviation * clean / wide, 0.0), square=np.append(clean**2 / wide, 0.0),
        start_along=np.append(np.sqrt(snr[0]) * carried, none[1:]),
        start_square=np.append(snr[0] * carried, none[1:]),
        setup=none, number=np.arange(1, len(times) + 1),
    )  # fmt: skip
    if start == "prior" or on_data or given:
        return rows
    return jax.tree.map(lambda a, b: np.append(a, b), _setup(rows, snr[0] * variance), rows)


def _setup(rows: Rows, spread: float) -> Rows:
    """The row that moves the first state to its class: x ← x + α D_z(x), of x = σ ε.

    At high noise D_z is the mean of class z up to γs²; with `spread` = γs² known the result has the exact law.
    """
    first = jax.tree.map(lambda column: column[0] * 0.0, rows)
    move = {"state": np.sqrt(1 + spread) - spread, "clean": rows.alpha[0] * (1 + spread)}
    kept = {name: getattr(rows, name)[0] for name in ("t", "alpha", "sigma", "level", "half_snr")}
    return first._replace(**kept, **move, setup=1.0)


class Paths(NamedTuple):
    """A chunk of trajectories, n of them; everything random follows from `key` and their numbers.

    Attributes:
        key: random key of the whole estimate.
        index: (n,) number of each trajectory.
        real: (n,) whether it counts, or only fills up the chunk.
        z: (n,) class of each, an index into the conditions.
        first: (n, d) states to start from, or the standard normal noise that they are made of.
        x0: (n, d) data that drive, or None.
    """

    key: PRNGKeyArray
    index: Any
    real: Any
    z: Any
    first: Any
    x0: Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "denoiser",
        "reference",
        "conditions",
        "log_prior",
        "rows",
        "decisions",
        "guidance",
        "shares",
    ],
    meta_fields=["drive", "tracker", "shape", "dtype", "at_once", "exhaustive", "same_condition", "given"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """What trajectories are made and judged by.

    Attributes:
        denoiser: as a pytree, see `as_pytree`.
        reference: denoiser of the unconditional law (asked without condition), or None where nothing needs it.
        conditions: the K encoded conditions.
        log_prior: (K,).
        rows: the table.
        decisions: one for each partition asked about.
        guidance: schedule of the guided chain, or None.
        shares: (K,) share of each class among the unconditional network's labels.
        drive, tracker: see the module and `neural.estimators.trackers`.
        shape: of one state; the chain works on (n, d).
        dtype: of states and log-weights.
        at_once: conditions in one call of the network.
        exhaustive: whether the conditions are all that the unconditional law is made of.
        same_condition: whether the reference is asked with the trajectory's own condition.
        given: whether first states are handed in.
    """

    denoiser: Any
    reference: Any
    conditions: Conditions
    log_prior: Float[Array, " K"]
    rows: Rows
    decisions: tuple[Decision, ...]
    guidance: Any
    shares: Float[Array, " K"]
    drive: str
    tracker: str
    shape: tuple[int, ...]
    dtype: Any
    at_once: int
    exhaustive: bool
    same_condition: bool
    given: bool

    @property
    def classes(self) -> int:
        """K."""
        return self.log_prior.shape[0]

    def predict(self, x: Float[Array, "n d"], t: Array, z: Int[Array, " n"]) -> Float[Array, "n J d"]:
        """D_c for each class and, where there is a reference, D_∅ as the last of J."""
        states = x.reshape(-1, *self.shape)
        found = denoise_each(from_pytree(self.denoiser), states, t, self.conditions, self.at_once)
        found = found.reshape(x.shape[0], self.classes, x.shape[1]).astype(self.dtype)
        if self.reference is None:
            return found
        condition = jax.tree.map(lambda leaf: leaf[z], self.conditions) if self.same_condition else None
        without = from_pytree(self.reference).denoise(states, t, condition).reshape(x.shape[0], 1, x.shape[1])
        return jnp.concatenate([found, without.astype(self.dtype)], axis=1)


class Carry(NamedTuple):
    """Between steps: x (n, d); log w of each class, normalised, and of the reference (n, J); guidance's ℓ (n,)."""

    x: Float[Array, "n d"]
    log_w: Float[Array, "n J"]
    ratio: Float[Array, " n"]


class Record(NamedTuple):
    """What one row leaves behind.

    Attributes:
        columns: for each decision the statistics of every trajectory (n, F), see `neural.estimators.trackers`.
        finite: () whether every prediction was.
        kept: log-weights (n, J) and states (n, d), None where they are not kept.
    """

    columns: tuple[Float[Array, "n F"], ...]
    finite: Bool[Array, ""]
    kept: "Kept"


class Kept(NamedTuple):
    """Log-weights of classes (normalised) and reference (n, J), and states (n, d), of one time; or None."""

    log_w: Any
    x: Any


@jax.jit
def draw_classes(
    key: PRNGKeyArray, index: Int[Array, " n"], log_prior: Float[Array, " K"]
) -> Int[Array, " n"]:
    """Classes of the trajectories `index`, from the prior."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), _CLASS))(index)
    return jax.vmap(lambda k: jax.random.categorical(k, log_prior))(keys)


@functools.partial(jax.jit, static_argnames=("dim", "dtype"))
def draw_noise(
    key: PRNGKeyArray, index: Int[Array, " n"], number: ArrayLike = _FIRST, *, dim: int, dtype: Any
) -> Float[Array, "n d"]:
    """Standard normal noise of the trajectories `index`, the same whatever others are drawn with them."""

    def one(i: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, i), number), (dim,), dtype)

    return jax.vmap(one)(index)


def trajectories(chain: Chain, paths: Paths, keep: Kept) -> tuple[Carry, Record]:
    """Run a chunk: the last states, and the records of all rows stacked; `keep` holds flags."""
    rows = jax.tree.map(lambda column: jnp.asarray(column, chain.dtype), chain.rows)
    # Times keep their own precision: networks choose theirs.
    rows = rows._replace(t=jnp.asarray(chain.rows.t), number=jnp.asarray(chain.rows.number, int))
    x = paths.first if chain.given else rows.sigma[0] * paths.first
    if paths.x0 is not None:
        x = rows.alpha[0] * paths.x0 + x
    prior = jnp.concatenate([chain.log_prior, jnp.zeros(int(chain.reference is not None), chain.dtype)])
    n = paths.z.shape[0]
    start = Carry(x, jnp.broadcast_to(prior, (n, prior.size)), jnp.zeros(n, chain.dtype))
    return lax.scan(functools.partial(_step, chain, paths, keep), start, rows)


def _step(chain: Chain, paths: Paths, keep: Kept, carry: Carry, row: Rows) -> tuple[Carry, Record]:
    predicted = chain.predict(carry.x, row.t, paths.z)
    log_w = lax.cond(
        row.start_square > 0, functools.partial(_from_state, chain, paths.z, row), lambda *args: args[-1],
        predicted, carry.x, carry.log_w,
    )  # fmt: skip
    drive = _drive(chain, paths, row, predicted, carry._replace(log_w=log_w))
    judged = tuple(
        columns(chain, decision, paths, row.half_snr, log_w, predicted, drive) for decision in chain.decisions
    )
    kept = Kept(log_w if keep.log_w else None, carry.x if keep.x else None)
    record = Record(judged, jnp.isfinite(predicted).all(), kept)
    noise = draw_noise(paths.key, paths.index, row.number, dim=carry.x.shape[1], dtype=chain.dtype)
    gain = _gain(predicted, drive, noise, row.along, row.square)
    x = row.state * carry.x + row.clean * drive + row.deviation * noise
    ratio = jnp.where(row.setup > 0, carry.ratio, _tracked(chain, paths.z, carry.ratio, gain))
    return Carry(x, _normalised(chain, log_w + gain), ratio), record


def _gain(
    predicted: Float[Array, "n J d"],
    drive: Float[Array, "n d"],
    noise: Float[Array, "n d"],
    along: Any,
    square: Any,
) -> Float[Array, "n J"]:
    """along ε·Δ_j - ½ square ‖Δ_j‖²."""
    delta = predicted - drive[:, None, :]
    return along * jnp.einsum("njd,nd->nj", delta, noise) - 0.5 * square * jnp.sum(delta**2, axis=-1)


def _normalised(chain: Chain, log_w: Float[Array, "n J"]) -> Float[Array, "n J"]:
    """Posteriors that add up to one over the classes; the reference keeps its ratio to their sum."""
    classes, rest = log_w[:, : chain.classes], log_w[:, chain.classes :]
    return jnp.concatenate(
        [log_normalise(classes), rest - jax.nn.logsumexp(classes, axis=1, keepdims=True)], axis=1
    )


def _from_state(
    chain: Chain,
    z: Int[Array, " n"],
    row: Rows,
    predicted: Float[Array, "n J d"],
    x: Float[Array, "n d"],
    log_w: Float[Array, "n J"],
) -> Float[Array, "n J"]:
    """What x_T itself says: log π_c - ‖x_T - α D_c‖²/2σ², measured from D_z."""
    own = _of_class(predicted, z)
    residual = (x - row.alpha * own) / row.sigma
    log_w = log_w + _gain(predicted, own, residual, row.start_along, row.start_square)
    if chain.reference is not None and chain.exhaustive:
        # The law without condition is the sum over classes, which one Gaussian around D_∅ is not.
        whole = jax.nn.logsumexp(log_w[:, : chain.classes], axis=1, keepdims=True)
        log_w = jnp.concatenate([log_w[:, : chain.classes], whole], axis=1)
    return _normalised(chain, log_w)


def _of_class(predicted: Float[Array, "n J d"], z: Int[Array, " n"]) -> Float[Array, "n d"]:
    return jnp.take_along_axis(predicted, z[:, None, None], axis=1)[:, 0]


def _drive(
    chain: Chain, paths: Paths, row: Rows, predicted: Float[Array, "n J d"], carry: Carry
) -> Float[Array, "n d"]:
    if paths.x0 is not None:
        return paths.x0
    own = _of_class(predicted, paths.z)
    if chain.guidance is not None:
        drive = _guided(chain, row, own, predicted[:, -1], carry.ratio)
    elif chain.drive == "class":
        return own
    elif chain.drive == "unconditional":
        drive = predicted[:, -1]
    else:
        p = jnp.exp(carry.log_w[:, : chain.classes])
        drive = jnp.einsum("nk,nkd->nd", p, predicted[:, : chain.classes])
    return jnp.where(row.setup > 0, own, drive)


def _guided(
    chain: Chain,
    row: Rows,
    own: Float[Array, "n d"],
    reference: Float[Array, "n d"],
    ratio: Float[Array, " n"],
) -> Float[Array, "n d"]:
    gap = gap_of(own, reference, row.level) if chain.guidance.needs_gap else jnp.zeros_like(ratio)
    return steer(own, reference, chain.guidance.weight(row.level, ratio, gap))


def _tracked(
    chain: Chain, z: Int[Array, " n"], ratio: Float[Array, " n"], gain: Float[Array, "n J"]
) -> Array:
    if chain.guidance is None or not chain.guidance.needs_ratio:
        return ratio
    own = jnp.take_along_axis(gain, z[:, None], axis=1)[:, 0]
    return chain.guidance.tracked(ratio, own - gain[:, -1])
