"""Several processes for one result, by `jax.distributed`; see docs/how-to/scaling.md."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

AUTO = "auto"


def join(distributed: str | None) -> bool:
    """Join the other processes; called before anything else uses JAX.

    Args:
        distributed: "auto" where the launcher sets it up (SLURM, MPI, TPU pods), else "HOST:PORT,N,I": where the first
            process listens, how many there are, and which this is; None for a process alone.

    Returns:
        Whether this process is the one that writes and prints.

    Raises:
        ValueError: when `distributed` is not of that form, or there is no process to join.
    """
    if distributed is None:
        return True
    import jax

    place = {} if distributed == AUTO else _place(distributed)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # asked on CPUs only
    try:
        jax.distributed.initialize(**place)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed {distributed} found no processes to join: {error}; HOST:PORT,N,I says where they are"
        ) from error
    return jax.process_index() == 0


@contextlib.contextmanager
def silent_unless(is_first: bool) -> Iterator[None]:
    """Prints nothing within, unless this process is the one that prints."""
    with contextlib.ExitStack() as stack:
        if not is_first:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


def _place(distributed: str) -> dict[str, Any]:
    address, *rest = distributed.split(",")
    numbers = [int(part) for part in rest if part.isdecimal()]
    if ":" not in address or len(rest) != 2 or len(numbers) != 2 or not numbers[1] < numbers[0]:
        raise ValueError(
            "--distributed must be auto or HOST:PORT,N,I with process numbers I = 0..N-1, such as "
            f"10.0.0.1:1234,4,0; got {distributed!r}"
        )
    return {"coordinator_address": address, "num_processes": numbers[0], "process_id": numbers[1]}
