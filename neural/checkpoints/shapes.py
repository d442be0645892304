"""Whether the tensors of a checkpoint are those of a network."""

from collections.abc import Callable, Mapping, Sequence

_SHOWN = 5


def check_shapes(
    shapes: Mapping[str, Sequence[int]],
    expected: Mapping[str, Sequence[int]],
    *,
    network: str = "",
    optional: Callable[[str], bool] | None = None,
) -> None:
    """Raise ValueError unless there are the expected tensors and no others, each of its shape.

    Args:
        shapes: of the tensors by name.
        expected: of the network's tensors.
        network: its name, for messages.
        optional: whether the tensor of a name may be missing; None for no tensor.
    """
    prefix = f"{network}: " if network else ""
    if missing := sorted(
        name for name in expected.keys() - shapes.keys() if optional is None or not optional(name)
    ):
        raise ValueError(f"{prefix}{len(missing)} tensor(s) missing: {_listed(missing)}")
    if extra := sorted(shapes.keys() - expected.keys()):
        raise ValueError(f"{prefix}{len(extra)} tensor(s) that this network does not have: {_listed(extra)}")
    for name in expected.keys() & shapes.keys():
        if tuple(shapes[name]) != tuple(expected[name]):
            raise ValueError(
                f"{prefix}tensor {name} must have shape {tuple(expected[name])}, got {tuple(shapes[name])}"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
