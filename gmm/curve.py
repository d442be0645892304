"""EntropyCurve, the common type of curves from every source, so that they can be compared.

Quadrature, sampling and trained networks all return it. Schema of the files: ``docs/reference/curves.md``.
"""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import ArrayLike, Float
from scipy.interpolate import CubicHermiteSpline

from gmm.checks import choose
from gmm.netcdf import load_dataset, save_dataset
from gmm.process import ddpm, scaled_linear_betas
from gmm.schema import from_json

if TYPE_CHECKING:  # loaded by the methods that use them alone
    import pandas
    from matplotlib.axes import Axes

FORMAT = "speciation-entropy-curve/1"
AXES = ("t", "log-snr", "sigma", "timestep")
AXIS_LABELS = {"t": "time t", "log-snr": "log(α²/σ²)", "sigma": "noise level σ/α", "timestep": "timestep"}
UNITS = ("nats", "bits")

_POINT_FIELDS = {
    "entropy": "posterior entropy H[Z|X_t]",
    "entropy_stderr": "standard error of entropy",
    "rate": "entropy rate dH/dt",
    "rate_stderr": "standard error of rate",
    "surprise_variance": "variance of the surprise -log p(Z|X_t)",
    "clone_agreement": "expected sum of squared cell posteriors",
    "clone_agreement_stderr": "standard error of clone_agreement",
    "cross_entropy": "mean of -log p(target|x_t) along guided paths",
    "cross_entropy_stderr": "standard error of cross_entropy",
}
_CELL_FIELDS = {
    "per_cell": "mean of -log p(z|X_t) given Z = z",
    "per_cell_stderr": "standard error of per_cell",
}
_MAY_BE_ABSENT = ("cross_entropy", "cross_entropy_stderr", *_CELL_FIELDS)
_POINTWISE = ("t", "log_snr", "log_snr_slope", *_POINT_FIELDS, *_CELL_FIELDS)
# How a field scales with the unit of information; fields that are not named here do not.
_INFORMATION_POWER = {
    **dict.fromkeys(("entropy", "entropy_stderr", "rate", "rate_stderr", "prior_entropy"), 1),
    **dict.fromkeys(("per_cell", "per_cell_stderr", "cross_entropy", "cross_entropy_stderr"), 1),
    "surprise_variance": 2,
}
# Fields that the constructor fills in where they are not given.
_FILLED: Any = None


def versions() -> dict[str, str]:
    """Versions that a result depends on, for its metadata."""
    names = ("speciation", "jax", "jaxlib", "numpy")
    packages = {f"version_{name}": importlib.metadata.version(name) for name in names}
    return packages | {"version_python": platform.python_version()}


def _slope(t: np.ndarray, log_snr: np.ndarray) -> np.ndarray:
    """d log_snr/dt from differences between neighbouring times, in whatever order the points stand."""
    times, first, back = np.unique(t, return_index=True, return_inverse=True)
    return np.gradient(log_snr[first], times)[back] if len(times) > 1 else np.full(len(t), np.nan)


def _facts(text: str) -> dict[str, Any]:
    try:
        return from_json(dict[str, Any], text)
    except ValueError as error:
        raise ValueError(f"the attribute metadata of an entropy curve: {error}") from error


def _plain(value: Any) -> Any:
    """A value for JSON: arrays and NumPy's numbers as lists and numbers."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def positions(log_snr: Float[ArrayLike, "..."], name: str) -> Float[np.ndarray, "..."]:
    """(...) positions of noise levels on an axis that all processes share.

    Args:
        log_snr: log of alpha²/sigma².
        name: "log-snr", "sigma" or "timestep", as in `EntropyCurve.axis`.
    """
    log_snr = np.asarray(log_snr, np.float64)
    if name == "timestep":
        with jax.enable_x64(True):
            chain = ddpm(scaled_linear_betas())
            table = np.asarray(chain.log_snr_table)
            inside = (log_snr <= table[0]) & (log_snr >= table[-1])
            index = np.asarray(chain.time_at_log_snr(jnp.asarray(log_snr)))
        return np.where(inside, index, np.nan)
    return {"log-snr": log_snr, "sigma": np.exp(-0.5 * log_snr)}[choose("axis", name, AXES[1:])]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EntropyCurve:
    """H[Z|X_t] and its rate at T points of a forward process, with standard errors.

    Attributes:
        t: (T,) the process's own time.
        log_snr: (T,) log of alpha²/sigma², finite.
        entropy, entropy_stderr: (T,) posterior entropy and its standard error (zero for quadrature).
        rate, rate_stderr: (T,) dH/dt, positive, and its standard error.
        prior_entropy: H[Z].
        per_cell, per_cell_stderr: (T, C) mean surprise -log p(z|X_t) given Z = z; its prior-weighted
            sum is `entropy`. C = 0 where the source does not give it, NaN where it gives no error.
        surprise_variance: (T,) variance of -log p(Z|X_t), in squared units; NaN where not given.
        clone_agreement, clone_agreement_stderr: (T,) E Σ_z p(z|X_t)², the probability that two
            reverse paths from one x_t end in the same cell; NaN where not given.
        cross_entropy, cross_entropy_stderr: (T,) or None; set for guided paths and held-out data.
        log_snr_slope: (T,) d log_snr/dt, to turn `rate` into a rate on another axis; by differences
            between the points where not given.
        units: "nats" or "bits".
        metadata: facts to reproduce the curve: `route` (how it was made: "sampled", "simplex", "tree", ...), seed,
            sizes, process, versions.
    """

    t: np.ndarray
    log_snr: np.ndarray
    entropy: np.ndarray
    entropy_stderr: np.ndarray
    rate: np.ndarray
    rate_stderr: np.ndarray
    prior_entropy: float
    per_cell: np.ndarray = _FILLED
    per_cell_stderr: np.ndarray = _FILLED
    surprise_variance: np.ndarray = _FILLED
    clone_agreement: np.ndarray = _FILLED
    clone_agreement_stderr: np.ndarray = _FILLED
    cross_entropy: np.ndarray | None = None
    cross_entropy_stderr: np.ndarray | None = None
    log_snr_slope: np.ndarray = _FILLED
    units: str = "nats"
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        choose("units", self.units, UNITS)
        points = np.shape(self.t)
        if len(points) != 1:
            raise ValueError(f"t must have shape (T,), got {points}")
        for name in _POINTWISE:
            value = self._default(name) if getattr(self, name) is None else getattr(self, name)
            if value is None:
                continue
            array = np.array(value, np.float64)  # a copy: the curve does not change when its source does
            wanted = (*points, *self._cells) if name in _CELL_FIELDS else points
            if array.shape != wanted:
                raise ValueError(f"{name} must have shape {wanted} like t, got {array.shape}")
            object.__setattr__(self, name, array)
        if not np.isfinite(self.log_snr).all():
            raise ValueError(
                "log_snr must be finite; leave out times where the process has no noise or no signal"
            )
        object.__setattr__(self, "prior_entropy", float(self.prior_entropy))
        object.__setattr__(self, "metadata", dict(self.metadata))

    def __repr__(self) -> str:
        route = self.metadata.get("route", self.metadata.get("source", "unknown"))
        process = self.metadata.get("process", "unknown")
        name = process.get("name", process) if isinstance(process, Mapping) else process
        ends = "none" if not len(self.t) else f"{self.sigma.min():.4g} .. {self.sigma.max():.4g}"
        low, high = (f"{f(self.entropy):.4g}" if len(self.t) else "none" for f in (np.min, np.max))
        return (
            f"EntropyCurve of {len(self.t)} points, sigma/alpha = {ends}\n"
            f"  entropy: {low} .. {high} of {self.prior_entropy:.4g} {self.units}, {self._error}\n"
            f"  route: {route}; process: {name}"
        )

    @property
    def _error(self) -> str:
        """The standard error of the entropy in words."""
        if not np.any(self.entropy_stderr):
            return "no sampling error"
        known = self.entropy_stderr[np.isfinite(self.entropy_stderr)]
        largest = f"standard error up to {known.max():.2g}" if len(known) else "standard error unknown"
        unknown = len(self.t) - len(known)
        return f"{largest}, unknown at {unknown} points" if unknown and len(known) else largest

    @property
    def _cells(self) -> tuple[int]:
        """(C,), or (0,) where there are no values for single cells."""
        shape = (0, 0) if self.per_cell is None else np.shape(self.per_cell)
        if len(shape) != 2:
            raise ValueError(f"per_cell must have shape (T, C), got {shape}")
        return (shape[1],)

    def _default(self, name: str) -> np.ndarray | None:
        points = np.shape(self.t)
        if name == "log_snr_slope":
            return _slope(self.t, self.log_snr)
        if name.startswith("cross_entropy"):
            return None
        return np.full((*points, *self._cells) if name in _CELL_FIELDS else points, np.nan)

    @property
    def sigma(self) -> np.ndarray:
        """(T,) noise-to-signal ratio sigma/alpha, the axis that all processes share."""
        return np.exp(-0.5 * self.log_snr)

    def axis(self, name: str = "t") -> np.ndarray:
        """(T,) positions of the points on an axis.

        Args:
            name: "t"; "log-snr"; "sigma", meaning sigma/alpha; or "timestep", the index at the same
                log-SNR on Stable Diffusion 1.5's 1000-step chain (NaN outside it).
        """
        choose("axis", name, AXES)
        return self.t if name == "t" else positions(self.log_snr, name)

    def positions_at(self, noise: Float[ArrayLike, "..."], name: str = "t") -> Float[np.ndarray, "..."]:
        """(...) positions of noise levels log(sigma/alpha) on an axis, also between the curve's points.

        Exact on every axis but "t": there as in `times_at`.
        """
        choose("axis", name, AXES)
        noise = np.asarray(noise, np.float64)
        return self.times_at(noise) if name == "t" else positions(-2 * noise, name)

    def take(self, index: np.ndarray | slice) -> "EntropyCurve":
        """The curve of some of its points, in the order of `index`."""
        values = {name: getattr(self, name) for name in _POINTWISE}
        chosen = {name: value[index] for name, value in values.items() if value is not None}
        return dataclasses.replace(self, **chosen)

    def times_at(self, noise: Float[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
        """(...) the process's own times at log(sigma/alpha), by the cubic through the points; NaN beyond them."""
        at, first = np.unique(-0.5 * self.log_snr, return_index=True)
        if len(at) < 2:
            return np.where(np.asarray(noise) == at, self.t[first], np.nan)
        cubic = CubicHermiteSpline(at, self.t[first], -2 / self.log_snr_slope[first])
        return np.asarray(cubic(noise, extrapolate=False))

    def noise_at(self, t: Float[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
        """(...) log(sigma/alpha) at the process's own times, by the cubic through the points; NaN beyond them."""
        at, first = np.unique(self.t, return_index=True)
        if len(at) < 2:
            return np.where(np.asarray(t) == at, -0.5 * self.log_snr[first], np.nan)
        cubic = CubicHermiteSpline(at, -0.5 * self.log_snr[first], -0.5 * self.log_snr_slope[first])
        return np.asarray(cubic(t, extrapolate=False))

    def rate_per_log_noise(self) -> tuple[np.ndarray, np.ndarray]:
        """dH/d log(sigma/alpha) and its standard error, (T,) each; it does not depend on the clock of the process."""
        scale = -2 / self.log_snr_slope
        return self.rate * scale, self.rate_stderr * scale

    def in_bits(self) -> "EntropyCurve":
        """The same curve in bits."""
        return self.in_units("bits")

    def in_units(self, units: str) -> "EntropyCurve":
        """The same curve in "nats" or "bits"."""
        if choose("units", units, UNITS) == self.units:
            return self
        factor = 1 / math.log(2) if units == "bits" else math.log(2)
        values = {name: getattr(self, name) for name in _INFORMATION_POWER}
        scaled = {
            name: value * factor ** _INFORMATION_POWER[name]
            for name, value in values.items()
            if value is not None
        }
        return dataclasses.replace(self, units=units, **scaled)

    def to_dataset(self) -> xr.Dataset:
        """Labelled form: dimensions point and cell, coordinates t, log_snr, sigma; see docs/reference/curves.md.

        Fields that the curve does not have are absent: the cells' of a curve without values for single cells, and the
        cross-entropy of unguided ones.
        """
        described = _POINT_FIELDS | {"log_snr_slope": "d log_snr / dt"}
        data: dict[str, Any] = {
            name: ("point", getattr(self, name), {"long_name": text})
            for name, text in described.items()
            if getattr(self, name) is not None
        }
        if self._cells != (0,):
            by_cell = {n: (("point", "cell"), getattr(self, n)) for n in _CELL_FIELDS}
            data |= {n: (*values, {"long_name": _CELL_FIELDS[n]}) for n, values in by_cell.items()}
        data["prior_entropy"] = ((), self.prior_entropy, {"long_name": "prior entropy H[Z]"})
        for name in data:
            power = _INFORMATION_POWER.get(name, 0)
            per_time = " per unit t" if name.startswith("rate") else ""
            data[name][2]["units"] = (self.units + ("^2" if power == 2 else "") + per_time) if power else "1"
        coords = {
            "t": ("point", self.t, {"long_name": "time of the process"}),
            "log_snr": ("point", self.log_snr, {"long_name": "log(alpha^2/sigma^2)"}),
            "sigma": ("point", self.sigma, {"long_name": "sigma/alpha"}),
        }
        # Half of a surrogate pair becomes a question mark: a file that held it could not be read again.
        facts = (
            json.dumps(self.metadata, default=_plain, ensure_ascii=False).encode("utf-8", "replace").decode()
        )
        return xr.Dataset(data, coords, {"format": FORMAT, "units": self.units, "metadata": facts})

    def to_dataframe(self) -> "pandas.DataFrame":
        """A data frame with one row for each time; columns are the fields, `per_cell_0` ... for the cells."""
        import pandas

        columns = {"t": self.t, "log_snr": self.log_snr, "sigma": self.sigma}
        for name in _POINTWISE[2:]:
            values = getattr(self, name)
            if name in _CELL_FIELDS:
                columns |= {f"{name}_{cell}": column for cell, column in enumerate(values.T)}
            elif values is not None:
                columns[name] = values
        return pandas.DataFrame(columns)

    def plot(self, ax: "Axes | None" = None, axis: str = "t", units: str = "nats") -> "Axes":
        """Matplotlib axes with the entropy, a band of two standard errors to either side, and the prior entropy.

        Args:
            ax: axes to draw into; new ones by default.
            axis: as in `axis`; all but "timestep" are logarithmic where every position is positive.
            units: "nats" or "bits".
        """
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.figure().add_subplot()
        curve, at = self.in_units(units), self.axis(axis)
        order = np.argsort(at)
        at, entropy, error = at[order], curve.entropy[order], 2 * curve.entropy_stderr[order]
        (line,) = ax.plot(at, entropy, label=str(self.metadata.get("route", "entropy")))
        ax.fill_between(at, entropy - error, entropy + error, color=line.get_color(), alpha=0.25, linewidth=0)
        ax.axhline(curve.prior_entropy, color="0.6", linewidth=0.8, linestyle=":")
        if axis in ("t", "sigma") and (at > 0).all():
            ax.set_xscale("log")
        ax.set(xlabel=AXIS_LABELS[axis], ylabel=f"posterior entropy ({units})")
        return ax

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> "EntropyCurve":
        """Inverse of `to_dataset`.

        Raises:
            ValueError: when the Dataset is not an entropy curve of this format.
        """
        about: dict[str, Any] = {n: dataset.attrs.get(n) for n in ("format", "units", "metadata")}
        if str(about["format"]) != FORMAT:
            raise ValueError(
                f"dataset must be an entropy curve ({FORMAT}), got format {about['format']!r:.60}"
            )
        for name, value in about.items():
            if value is None:
                raise ValueError(f"entropy curve lacks the attribute {name}")
            if not isinstance(value, str):
                raise ValueError(f"the attribute {name} of an entropy curve must be text, got {value!r:.60}")
        missing = [n for n in (*_POINTWISE, "prior_entropy") if n not in dataset and n not in _MAY_BE_ABSENT]
        if missing:
            raise ValueError(f"entropy curve lacks {', '.join(missing)}")
        fields: dict[str, Any] = {
            name: dataset[name].values for name in (*_POINTWISE, "prior_entropy") if name in dataset
        }
        for name, values in fields.items():
            if values.dtype.kind not in "iuf" or (name == "prior_entropy" and values.ndim):
                raise ValueError(
                    f"{name} of an entropy curve must hold numbers, got {values.dtype} {values.shape}"
                )
        return cls(**fields, units=about["units"], metadata=_facts(about["metadata"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write NetCDF under a temporary name that is then renamed; raises ValueError when `path` cannot be written."""
        save_dataset(path, self.to_dataset())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "EntropyCurve":
        """Read a curve saved by `save`.

        Raises:
            ValueError: when the file is missing, unreadable or not an entropy curve.
        """
        return cls.from_dataset(load_dataset(path))
