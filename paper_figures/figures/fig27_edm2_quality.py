"""Image quality of an EDM2 network over guidance weight and interval, with the measured window over the optima."""

import json

import xarray as xr
from matplotlib.figure import Figure

from neural import load_judge
from neural.checkpoints import hashes, locate
from neural.models import Model
from paper_figures.drawing import image_quality as drawing
from paper_figures.drawing.view import View
from paper_figures.figures.fig25_edm2_u_turn import pictures_of
from paper_figures.figures.settings import ExperimentSettings
from paper_figures.formats.numbers import attach
from paper_figures.progress import from_part, share
from paper_figures.studies import experiment, image_quality, references
from paper_figures.studies.asked import Asked
from paper_figures.studies.experiment import Row, Work
from paper_figures.studies.guidance_optima import mean_curve, numbers, windows
from paper_figures.studies.image_quality import Images
from paper_figures.studies.pictures import PictureSettings
from paper_figures.studies.plan import Cost, Plan, model_or_stand_in, network_of
from paper_figures.studies.sources import ONLINE

CAPTION = """
Images of an EDM2 network under guidance of several weights inside several noise intervals, and the noise window in
which the network decides its classes. One row for each judge. (a) Squared Fréchet distance from real images: FID on
the features of Inception-v3, FD-DINOv2 on those of DINOv2. (b, c) Precision and recall (three neighbours); both need
real images, not statistics alone. (d) The intervals, the best one of the row thick; grey: the window that holds the
central 80% of the information about a class against the unconditional network, mean over classes, and dotted its
middle. Bars are two standard errors of a jackknife over tenths of both sets of images. The least of many noisy numbers
is too small on average, and so is the distance of the best schedule. Published: 50,000 images of a setting and the
stochastic sampler of 64 evaluations (arXiv 2602.09651); the four limited intervals, optima of arXiv 2506.06085, table
3: 0.15 to 1.6 (weight 2.8) by FID and 0.48 to 6.8 (2.9) by FD-DINOv2 with the stochastic sampler, 0.41 to 2.9 (2.2)
and 0.80 to 16.6 (2.8) with Heun's. Ours: the weights of the grid, the classes whose window is measured, the interval
that is the window itself.
"""

KIND = "edm2"
CLASSES = ("golden retriever", "minivan", "lemon")
WEIGHTS = (1.4, 2.0, 2.8, 4.0)
INTERVALS = ("0.15..1.6", "0.41..2.9", "0.48..6.8", "0.8..16.6")
IMAGES, FAST_IMAGES = 50_000, 40
PATHS, FAST_PATHS = 300, 16
STEPS, FAST_STEPS = 64, 8
DECODING = (
    "decoding and judging come on top: about 1.2 T multiply-adds for an image of 512 x 512 pixels in the autoencoder, "
    "0.1 T in the judges"
)


def schedules(settings: ExperimentSettings) -> list[str]:
    """The schedules asked for, else every weight in every interval; the plain dynamics first."""
    weights, intervals = settings.size((WEIGHTS, INTERVALS), (WEIGHTS[2:3], INTERVALS[:2]))
    grid = [
        text
        for w in weights
        for text in (f"cfg:{w:g}", *(f"interval:{w:g}:{ends}" for ends in intervals), f"entropy:{w:g}")
    ]
    return image_quality.expanded(settings.schedules or grid)


def rows(settings: ExperimentSettings, model: Model) -> list[Row]:
    """One row for each class whose window is measured."""
    classes = list(settings.classes) or [name for name in CLASSES if name in model.names]
    asked = Asked(
        model.name, preset="paper", each=True, classes=classes or [model.names[0]], seed=settings.seed,
        steps=_steps(settings), samples=settings.paths or settings.size(PATHS, FAST_PATHS),
    )  # fmt: skip
    return experiment.rows_of(asked, model)


def _steps(settings: ExperimentSettings) -> int:
    return settings.steps or settings.size(STEPS, FAST_STEPS)


def _count(settings: ExperimentSettings) -> int:
    return settings.images or settings.size(IMAGES, FAST_IMAGES)


def plan(settings: ExperimentSettings) -> Plan:
    """What it costs: every guided step evaluates the network and the unconditional one."""
    asked, texts = rows(settings, model_or_stand_in(settings.weights[0])), schedules(settings)
    steps = _steps(settings) * _count(settings)
    of_windows = sum(row.question.evaluations() for row in asked)
    costs = [
        Cost("windows of classes", len(asked), asked[0].question.trajectories, of_windows),
        Cost("images without guidance", 1, _count(settings), steps),
        Cost("images of guided schedules", len(texts) - 1, _count(settings), 2 * steps * (len(texts) - 1)),
    ]
    return Plan(network_of(settings.weights[0]), costs, DECODING)


def compute(settings: ExperimentSettings, work: Work) -> xr.Dataset:
    """The quality of every schedule by every judge, and the windows.

    Raises:
        ValueError: when the weights are not a network, an autoencoder and judges, a reference is missing or does not
            fit, or there are too few images for error bars.
    """
    model = experiment.model_for(KIND, settings.weights)
    _check(settings)
    images = _images(settings, model)
    parts = 2 + len(schedules(settings))
    kept = None if work.folder is None else work.folder / "features"
    found = references.read_references(
        settings.reference, images.judges, images.side, kept, share(work.progress, 0, parts)
    )
    asked = rows(settings, model)
    measured = experiment.measure(asked, Work(work.folder, share(work.progress, 1, parts)))
    curves = experiment.together({ONLINE: experiment.renamed(asked, measured)})
    chosen = image_quality.resolved(schedules(settings), mean_curve(curves))
    experiment.write_manifest(work.folder, asked, images=_listed(settings, chosen))
    quality = image_quality.measure(
        images, chosen, found, references.facts(settings.reference), work.folder,
        from_part(work.progress, 2, parts),
    )  # fmt: skip
    return _complete(quality, curves, settings, model, chosen)


def _check(settings: ExperimentSettings) -> None:
    if len(settings.weights) < 3:
        raise ValueError(
            "weights must name a network, its autoencoder and one judge or more, such as edm2-xs sd-vae-ft-mse "
            f"inception-fid dinov2-l; got {len(settings.weights)}"
        )
    if not settings.reference:
        raise ValueError(
            "give `reference`: a folder of real images, an .npz file with mu and sigma, or EDM2's published statistics"
        )
    if _count(settings) < image_quality.LEAST:
        raise ValueError(
            f"images must be at least {image_quality.LEAST}, the least for error bars, got {_count(settings)}"
        )


def _images(settings: ExperimentSettings, model: Model) -> Images:
    network, autoencoder, *judges = settings.weights
    if model.unconditional is None:
        raise ValueError(
            f"{network} has no unconditional network to guide with; put it beside the network's file"
        )
    made = PictureSettings(model.name, "ancestral", _steps(settings), 1.0, "float32", autoencoder)
    files = hashes(model.files), {} if model.pictures else hashes(locate(autoencoder))
    return Images(
        model=model,
        pictures=pictures_of(model, autoencoder),
        settings=made,
        judges=image_quality.judges_by_name([load_judge(name) for name in judges]),
        seeds=range(settings.seed, settings.seed + _count(settings)),
        facts=list(files),
    )


def _listed(settings: ExperimentSettings, chosen: dict[str, str]) -> list[dict]:
    """Entries of the manifest: what was generated under which schedule."""
    seeds = [settings.seed, settings.seed + _count(settings)]
    return [
        {"schedule": text, "as": form, "seeds": seeds, "steps": _steps(settings)}
        for text, form in chosen.items()
    ]


def _complete(
    quality: xr.Dataset,
    curves: xr.Dataset,
    settings: ExperimentSettings,
    model: Model,
    chosen: dict[str, str],
) -> xr.Dataset:
    lost = [text for text in schedules(settings) if text not in chosen]
    caveats = json.loads(quality.attrs["caveats"])
    if lost:
        caveats.append(f"the measured curve holds no window, so that {', '.join(lost)} are left out")
    facts = experiment.facts(
        model,
        judges=settings.weights[2:],
        reference=settings.reference,
        images=_count(settings),
        caveats=caveats,
    )
    data = xr.merge([quality, windows(curves)]).assign_attrs(facts)
    return attach(data, numbers(data))


def draw(dataset: xr.Dataset, _view: View) -> Figure:
    """One row of panels for each judge."""
    return drawing.draw(dataset)
