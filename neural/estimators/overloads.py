"""The type of an estimator that returns one result for one partition, and a list of them for several."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

from jaxtyping import PRNGKeyArray

from gmm.partition import Partition
from neural.denoiser import Denoiser

Result = TypeVar("Result")


class Estimator(Protocol[Result]):
    """Called with a denoiser, its conditions, and what else the estimator takes."""

    @overload
    def __call__(
        self,
        denoiser: Denoiser,
        conditions: Sequence[Any],
        *data: Any,
        partition: Partition | None = None,
        key: PRNGKeyArray,
        **arguments: Any,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        denoiser: Denoiser,
        conditions: Sequence[Any],
        *data: Any,
        partition: Sequence[Partition],
        key: PRNGKeyArray,
        **arguments: Any,
    ) -> list[Result]: ...


def one_or_several(estimator: Callable[..., Result | list[Result]]) -> Estimator[Result]:
    """The same function, with the type `Estimator`."""
    return cast(Estimator[Result], estimator)
