"""The settings of a figure."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a figure's numbers depend on, beside its code.

    Attributes:
        fast: small sizes for a quick look.
        seed: seed of every random number.
        dtype: precision of what is sampled, "float32" or "float64"; quadrature is float64 always.
        stream: the figure's own seed, so that no two figures share random numbers.

    Raises:
        ValueError: when seed is not an integer that JAX takes.
    """

    fast: bool = False
    seed: int = 0
    dtype: str = "float64"
    stream: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63-1, got {self.seed}")

    def size(self, full: T, fast: T) -> T:
        """`full`, or `fast` for a quick look."""
        return fast if self.fast else full

    def key(self) -> "PRNGKeyArray":
        """The figure's JAX random key."""
        import jax

        return jax.random.fold_in(jax.random.key(self.seed), self.stream)

    def as_dict(self) -> dict[str, Any]:
        """Plain form, as kept with the data."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ExperimentSettings(Settings):
    """The settings of an experiment on a published network; an empty choice leaves it to the experiment.

    Attributes:
        weights: models by name or path, the network that is measured first.
        classes: classes that are compared.
        highlight: those of them that are drawn thick, with ten times the paths.
        prompts: prompts, two for each contrast.
        partitions: names or files of partitions.
        schedules: guidance schedules in their text form.
        paths: trajectories of a curve that is not highlighted.
        steps: network evaluations of a trajectory.
        images: generated images of a schedule.
        reference: folders of real images, or files of statistics of them.
    """

    weights: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    highlight: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    paths: int | None = None
    steps: int | None = None
    images: int | None = None
    reference: tuple[str, ...] = ()
