"""``speciation check``: whether a model acts like a posterior mean."""

from pathlib import Path
from typing import Annotated

import typer

from paper_figures.commands.model_options import ChangeOptions, ModelOptions, Prompts
from paper_figures.commands.options import NetworkOptions

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.npz",
        help="Data of the model, for more checks: arrays x (m, ...) in the model's own coordinates and "
        "y (m,), the class of each, 0..C-1 in the order of the model's conditions.",
    ),
]
Count = Annotated[int, typer.Option(min=8, metavar="N", help="States at each noise level.")]


def check(
    *,
    model: ModelOptions,
    change: ChangeOptions,
    prompts: Prompts = None,
    data: Data = None,
    samples: Count = 64,
    network: NetworkOptions,
) -> None:
    """Is this model wrapped rightly? Signs, scales, noise levels and times.

    One row for each check with its verdict; where one fails, the conversion that would mend it is named if one does.
    The exit code is 1 when a check fails. A right model can fail where it is poorly trained.

    Examples: speciation check --model zoo:digits
              speciation check --model my_model.py:denoiser --trust-code
    """
    import jax

    from gmm.datasets import load_data
    from neural.check import check_denoiser
    from neural.models import load_model

    with jax.enable_x64(network.dtype == "float64"):
        loaded = load_model(model.model, dtype=network.dtype, trust_code=model.trust_code, **change.settings)
        x0 = y = None
        if data is not None:
            points = load_data(data)
            x0, y = points.x.reshape(-1, *points.shape), points.y
        report = check_denoiser(
            loaded, x0, y, conditions=prompts, samples=samples, key=jax.random.key(network.seed)
        )
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)
