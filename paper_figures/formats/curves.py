"""Families of entropy curves in one Dataset, and back."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gmm.clock import times_at
from gmm.curve import EntropyCurve
from gmm.landmarks import fastest, half_entropy
from gmm.process import Process
from theory import Window, window

WINDOW_SHARE = 0.8

_FIELDS = (
    "t", "log_snr", "log_snr_slope", "entropy", "entropy_stderr", "rate", "rate_stderr",
    "clone_agreement", "clone_agreement_stderr",
)  # fmt: skip


def stack(
    curves: Sequence[EntropyCurve], dimension: str, labels: Iterable[Any], prefix: str = ""
) -> xr.Dataset:
    """Curves of one length side by side.

    Args:
        curves: n curves of T points each, in nats.
        dimension: name of the dimension along which they are stacked.
        labels: (n,) its coordinate.
        prefix: put before every variable's name, so that several families fit one Dataset.

    Returns:
        Dataset with variables (dimension, prefix + "point") and the prior entropies (dimension,).
    """
    dims = (dimension, f"{prefix}point")
    data: dict[str, Any] = {
        prefix + name: (dims, np.stack([getattr(curve, name) for curve in curves])) for name in _FIELDS
    }
    data[f"{prefix}prior_entropy"] = (dimension, [curve.prior_entropy for curve in curves])
    return xr.Dataset(data, coords={dimension: list(labels)})


def unstack(dataset: xr.Dataset, dimension: str, prefix: str = "") -> list[EntropyCurve]:
    """The curves that `stack` put side by side, in order."""
    return [_curve(dataset.isel({dimension: i}), prefix) for i in range(dataset.sizes[dimension])]


def _curve(part: xr.Dataset, prefix: str) -> EntropyCurve:
    fields: dict[str, Any] = {name: part[prefix + name].values for name in _FIELDS}
    return EntropyCurve(**fields, prior_entropy=float(part[f"{prefix}prior_entropy"]))


def join(parts: Sequence[EntropyCurve]) -> EntropyCurve:
    """Pieces of one curve, in order."""
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS
    }
    return EntropyCurve(**fields, prior_entropy=parts[0].prior_entropy, metadata=parts[0].metadata)


def window_or_none(curve: EntropyCurve) -> Window | None:
    """The window that holds the central 80% of a curve's information; None where the curve does not hold it."""
    try:
        return window(curve, WINDOW_SHARE)
    except ValueError:
        return None


def window_ends(curve: EntropyCurve) -> tuple[float, float]:
    """log(σ/α) between which the central 80% of a curve's information lies; NaN where the curve does not hold it."""
    interval = window_or_none(curve)
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)


def fastest_time(process: Process, curve: EntropyCurve) -> float:
    """The time at which dH/dt is largest; NaN where that is at an end of the curve."""
    return float(times_at(process, fastest(curve, "t").value))


def half_entropy_time(process: Process, curve: EntropyCurve) -> float:
    """The time at which H is half of the prior entropy; NaN where the curve does not pass it."""
    return float(times_at(process, half_entropy(curve).value))


def axis_positions(t: np.ndarray, log_snr: np.ndarray, axis: str) -> np.ndarray:
    """Positions of noise levels (T,) on an axis, without a curve; see `EntropyCurve.axis`."""
    blank = np.full_like(t, np.nan)
    return EntropyCurve(t, log_snr, blank, blank, blank, blank, prior_entropy=np.nan).axis(axis)


def vp_curve(times: np.ndarray, entropy: Any, rate: Any, prior_entropy: float, **more: Any) -> EntropyCurve:
    """A curve from quadrature on the Ornstein-Uhlenbeck clock, where σ²/α² = e^{2t} - 1.

    Args:
        times: (T,) times, > 0.
        entropy: (T,) entropy in nats.
        rate: (T,) dH/dt in nats.
        prior_entropy: H[Z] in nats.
        more: further fields of `EntropyCurve`.
    """
    ratio = np.expm1(2 * times)
    zero = np.zeros_like(times)
    return EntropyCurve(
        t=times,
        log_snr=-np.log(ratio),
        log_snr_slope=-2 * (1 + 1 / ratio),
        entropy=np.asarray(entropy),
        entropy_stderr=zero,
        rate=np.asarray(rate),
        rate_stderr=zero,
        prior_entropy=prior_entropy,
        **more,
    )
