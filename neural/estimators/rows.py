"""The table of a chain: the coefficients of every step, in float64 on the host."""

import jax
import jax.numpy as jnp
import numpy as np

from gmm.clock import schedule
from gmm.dynamics import reverse_kernel
from gmm.process import Process
from neural.estimators.chain import Rows

_reverse_kernel = jax.jit(reverse_kernel)


def make_rows(
    process: Process, times: np.ndarray, *, start: str, variance: float, on_data: bool, given: bool
) -> Rows:
    """The table of a chain, computed in float64 on the host.

    Args:
        process: forward process.
        times: (T,) falling times with finite log-SNR.
        start: "prior" or "state", see `Options.start`.
        variance: within-class variance s² that the kernel includes: x_0 given x_t and a class then has variance
            s²/(1+γs²) instead of 0.
        on_data: whether data x_0 drive the trajectories: the noise of the bridges is then v, whatever `variance` is.
        given: whether the caller passes the first states.
    """
    grid = schedule(process, times)
    with jax.enable_x64(True):
        kernel = _reverse_kernel(process, jnp.asarray(times[:-1]), jnp.asarray(times[1:]))
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
    """The row that moves the first state x = σ ε to its class: x ← x + α D_z(x).

    At high noise D_z is the mean of class z up to γs². With `spread` = γs² the result has the exact law.
    """
    first = jax.tree.map(lambda column: column[0] * 0.0, rows)
    move = {"state": np.sqrt(1 + spread) - spread, "clean": rows.alpha[0] * (1 + spread)}
    kept = {name: getattr(rows, name)[0] for name in ("t", "alpha", "sigma", "level", "half_snr")}
    return first._replace(**kept, **move, setup=1.0)
