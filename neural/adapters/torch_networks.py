"""PyTorch networks as denoisers: `from_torch`.

torch is imported when `from_torch` is called; the rest of the project does not need it (extra `torch`).
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm.checks import check_count
from gmm.process import Process
from neural.check import warn_once
from neural.denoiser import FunctionDenoiser, State, check_conditions
from neural.predictions import check_prediction

ROUND = "round"
# Layers whose output depends on the training mode.
_MODE_DEPENDENT = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm", "RReLU")


@dataclasses.dataclass(frozen=True, eq=False)
class TorchDenoiser(FunctionDenoiser):
    """A PyTorch network as a denoiser; made by `from_torch`.

    Attributes:
        null: label of the law without a condition, or None.
        scale_input: whether the network is called with c_in x/α.
    """

    null: int | None = None
    scale_input: bool = False

    def denoise(self, x: State, t: Any, condition: Any = None) -> State:
        """E[x_0 | x_t, condition]; condition None stands for the null label."""
        warn_once(self)
        return self.to_x0(x, t, self.output(x, t, self._labels(condition)))

    def denoise_classes(self, x: State, t: Any, conditions: Int[Array, " K"]) -> Float[Array, "n K ..."]:
        """E[x_0 | x_t, condition] of every state under each of K conditions, in one batch of n·K rows."""
        warn_once(self)
        count = len(conditions)
        rows = jnp.repeat(x, count, axis=0)
        t = jnp.asarray(t)
        times = jnp.repeat(t, count) if t.ndim else t
        labels = jnp.tile(jnp.asarray(conditions), len(x))
        denoised = self.to_x0(rows, times, self.output(rows, times, labels))
        return denoised.reshape(len(x), count, *x.shape[1:])

    def output(self, x: State, t: Any, condition: Any = None) -> State:
        """The network's own output."""
        return super().output(self._scaled(x, t) if self.scale_input else x, t, condition)

    def _scaled(self, x: State, t: Any) -> State:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        factor = (1 / jnp.sqrt(sigma**2 + (alpha * self.sigma_data) ** 2)).astype(x.dtype)
        return x * factor.reshape(-1, *[1] * (x.ndim - 1))

    def _labels(self, condition: Any) -> Any:
        if condition is not None:
            return condition
        if self.null is None and self.conditions:
            raise ValueError(
                "condition None needs the network's null label; pass null=... to from_torch, or name a condition"
            )
        return self.null


def from_torch(
    net: Any,
    process: Process,
    *,
    prediction: str,
    conditions: Sequence[int],
    state_shape: Sequence[int],
    null: int | None = None,
    time: Callable[[Any], Any] | str | None = None,
    data_range: tuple[float, float] | None = None,
    device: Any = None,
    dtype: Any = None,
    batch: int | None = None,
    sigma_data: float = 0.5,
    scale_input: bool = False,
) -> TorchDenoiser:
    """A denoiser from a PyTorch network ``net(x (n, *state_shape), t (n,), label (n,))``.

    The network is called without gradients, with torch tensors on its device: x and t in its type, labels as
    torch.long. Its output is converted to E[x_0 | x_t] by the formulas of `neural.predictions`, which also state what
    the conversion does to the network's error. The first call compares the two ends of the noise axis with what every
    posterior mean satisfies, and warns where they differ (`neural.check_denoiser` has the full check).

    Args:
        net: a `torch.nn.Module` in eval mode, or any function of tensors. It may return a tensor, an object with the
            attribute `sample`, or a tuple whose first entry is the tensor. Without conditions and null label it is
            called as ``net(x, t)``.
        process: forward process; t is its own time.
        prediction: what the network predicts: "eps", "v", "x0", "velocity" or "F".
        conditions: class labels, integers.
        state_shape: shape of one state as the network takes it, e.g. (3, 32, 32).
        null: label that stands for no condition, if the network was trained with one.
        time: maps t (n,), a tensor, to what the network takes, such as ``lambda t: 1000 * t``. "round": the nearest
            whole number as torch.long, halves to even, for networks of discrete steps; α and σ of the conversion stay
            those of t, so use whole times where the difference matters. None: t itself.
        data_range: (low, high) to clip E[x_0 | x_t] to; see `neural.from_function`.
        device: torch device; by default that of the network's first parameter, else the CPU.
        dtype: torch dtype of states; by default that of the network's first floating parameter, else float32.
        batch: largest number of rows in one call of the network; by default all.
        sigma_data: standard deviation of the data in EDM's preconditioning, for "F".
        scale_input: True for EDM's inner network: it is called with c_in x/α, c_in = 1/√((σ/α)² + σ_data²). Its time
            is usually c_noise: pass ``time=lambda sigma: sigma.log() / 4``.

    Raises:
        ValueError: when an argument is not allowed, the network is in training mode and has layers that depend on it,
            or prediction is "eps" at zero terminal SNR.
        ModuleNotFoundError: when torch is not installed.
    """
    check_prediction(prediction, process, data_range, sigma_data)
    if time is not None and time != ROUND and not callable(time):
        raise ValueError(f'time must be a function of a tensor, "round" or None, got {time!r}')
    if batch is not None:
        check_count("batch", batch)
    shape = check_conditions(conditions, state_shape)
    _check_mode(net)
    device, dtype = _place(net, device, dtype)
    return TorchDenoiser(
        function=_host_function(net, device, dtype, time, batch),
        process=process,
        conditions=tuple(map(int, conditions)),
        state_shape=shape,
        traceable=False,
        has_unconditional=null is not None or not len(conditions),
        prediction=prediction,
        data_range=data_range,
        sigma_data=sigma_data,
        null=null,
        scale_input=scale_input,
    )


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("from_torch needs PyTorch; run: python -m pip install torch") from error


def _check_mode(net: Any) -> None:
    if not callable(net):
        raise ValueError(f"net must be a torch.nn.Module or a function of tensors, got {type(net).__name__}")
    for name, module in net.named_modules() if hasattr(net, "named_modules") else ():
        kind = type(module).__name__
        if module.training and kind.rstrip("123d") in _MODE_DEPENDENT:
            raise ValueError(f"net must be in eval mode, since its layer {name} is a {kind}; call net.eval()")


def _place(net: Any, device: Any, dtype: Any) -> tuple[Any, Any]:
    """Device and dtype: as given, else those of the network's parameters, else the CPU and float32."""
    torch = _torch()
    parameters = list(net.parameters()) if hasattr(net, "parameters") else []
    floating = [p for p in parameters if p.dtype.is_floating_point]
    if device is None:
        device = parameters[0].device if parameters else "cpu"
    if dtype is None:
        dtype = floating[0].dtype if floating else torch.float32
    return torch.device(device), dtype


def _host_function(net: Any, device: Any, dtype: Any, time: Any, batch: int | None) -> Callable[..., Any]:
    """The network as a function of NumPy arrays x (n, ...), t () or (n,), label (), (n,) or None."""
    torch = _torch()

    def call(x: np.ndarray, t: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        states = torch.from_numpy(np.array(x)).to(device, dtype)
        times = torch.from_numpy(np.broadcast_to(t, len(x)).copy()).to(device, dtype)
        if time == ROUND:
            times = times.round().long()
        elif time is not None:
            times = time(times)
        inputs = [states, times]
        if label is not None:
            inputs.append(torch.from_numpy(np.broadcast_to(label, len(x)).astype(np.int64)).to(device))
        with torch.no_grad():
            size = len(x) if batch is None else batch
            parts = [_tensor(net(*(a[i : i + size] for a in inputs))) for i in range(0, len(x), size)]
            return (
                torch.cat(parts).to("cpu", torch.float64 if x.dtype == np.float64 else torch.float32).numpy()
            )

    return call


def _tensor(output: Any) -> Any:
    if hasattr(output, "sample"):
        return output.sample
    return output[0] if isinstance(output, tuple) else output
