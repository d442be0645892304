"""Every figure by name: where it is computed and drawn, what it shows, its seed and its cost.

A figure's module has two functions and a text:

    compute(settings: Settings) -> xr.Dataset     all that it shows, numbers included
    draw(dataset, view: View) -> Figure           from the dataset alone
    CAPTION: str                                  what is shown and how it was made

and is imported only when it is used. An experiment measures a published network: its `compute` takes
an `ExperimentSettings` and where to keep finished parts, and its `plan(settings)` returns what it costs.
"""

import dataclasses
import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure as Picture

    from paper_figures.drawing.view import View
    from paper_figures.figures.settings import ExperimentSettings, Settings
    from paper_figures.studies.experiment import Work
    from paper_figures.studies.plan import Plan


@dataclasses.dataclass(frozen=True)
class Figure:
    """One entry of the registry.

    Attributes:
        name: its name on the command line and of its files.
        module: the module of this package that makes it.
        description: one line.
        seed: its own stream of random numbers.
        version: raised when its code changes the numbers, so that data on disk is computed again.
        seconds, fast_seconds: cost on one of two busy cores, cold; measured, for the estimate of time left.
        by_default: False for what needs downloads or hours: made only when asked for by name.
        times_itself: True if seconds are among its numbers: its programs are compiled with care even for a
            quick look.
        weights: of an experiment: the networks that it measures by default.
    """

    name: str
    module: str
    description: str
    seed: int
    version: str
    seconds: float
    fast_seconds: float
    by_default: bool = True
    times_itself: bool = False
    weights: tuple[str, ...] = ()

    @property
    def is_experiment(self) -> bool:
        """Whether it measures a published network."""
        return bool(self.weights)

    def cost(self, fast: bool) -> float:
        """Seconds that it takes to compute and draw."""
        return self.fast_seconds if fast else self.seconds

    def compute(self, settings: "Settings") -> "xr.Dataset":
        """Its data."""
        return self._module().compute(settings)

    def measure(self, settings: "ExperimentSettings", work: "Work") -> "xr.Dataset":
        """The data of an experiment."""
        return self._module().compute(settings, work)

    def plan(self, settings: "ExperimentSettings") -> "Plan":
        """What an experiment costs; its weights need not be on this machine."""
        return self._module().plan(settings)

    def draw(self, dataset: "xr.Dataset", view: "View") -> "Picture":
        """Its picture, from its data."""
        return self._module().draw(dataset, view)

    @property
    def caption(self) -> str:
        """What it shows and how it was made."""
        return " ".join(self._module().CAPTION.split())

    def _module(self) -> ModuleType:
        return importlib.import_module(f"paper_figures.figures.{self.module}")


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "four-points",
            "fig01_four_points",
            "four points on a line: density, reverse paths, posteriors, the rate of each decision",
            seed=1, version="2", seconds=15, fast_seconds=6,
        ),
        Figure(
            "log-time-vp",
            "fig02_log_time_vp",
            "variance preserving: curves collapse against t - ½ log d and sharpen against t/t_s",
            seed=2, version="1", seconds=3, fast_seconds=2,
        ),
        Figure(
            "log-time-ve",
            "fig03_log_time_ve",
            "EDM and VE: curves collapse against σ/√d and never sharpen",
            seed=3, version="1", seconds=9, fast_seconds=4,
        ),
        Figure(
            "criteria",
            "fig04_criteria",
            "every definition of a speciation time against d, and published clone agreements",
            seed=4, version="1", seconds=6, fast_seconds=3,
        ),
        Figure(
            "class-count",
            "fig05_class_count",
            "two to 10^12 classes: curves, and where the criteria part ways",
            seed=5, version="1", seconds=6, fast_seconds=3,
        ),
        Figure(
            "trees",
            "fig06_trees",
            "hierarchical classes: coarse before fine, and decisions among some of the classes",
            seed=6, version="2", seconds=21, fast_seconds=6,
        ),
        Figure(
            "condensation",
            "fig07_condensation",
            "exponentially many classes: condensation, and collapse on data points",
            seed=7, version="2", seconds=22, fast_seconds=4,
        ),
        Figure(
            "three-routes",
            "fig08_three_routes",
            "quadrature, reduced sampling and full sampling: agreement, and what each costs",
            seed=8, version="2", seconds=36, fast_seconds=9, times_itself=True,
        ),
        Figure(
            "beyond-isotropic",
            "fig09_beyond_isotropic",
            "what directions, unequal priors and unequal shapes change",
            seed=9, version="3", seconds=18, fast_seconds=5,
        ),
        Figure(
            "digits",
            "fig10_digits",
            "scikit-learn's digits: speciation, collapse, and two surrogates with held-out images",
            seed=10, version="2", seconds=50, fast_seconds=12,
        ),
        Figure(
            "estimators",
            "fig11_estimators",
            "estimators for trained models, on exact denoisers: two levels of a tree, long steps, three maps",
            seed=11, version="2", seconds=20, fast_seconds=16,
        ),
        Figure(
            "trained-tree",
            "fig12_trained_tree",
            "a trained network against quadrature at every level of a tree of classes",
            seed=12, version="1", seconds=6, fast_seconds=4,
        ),
        Figure(
            "trained-images",
            "fig13_trained_images",
            "digits and Fashion-MNIST: exact, surrogate and trained",
            seed=13, version="2", seconds=2, fast_seconds=2,
        ),
        Figure(
            "law-on-networks",
            "fig14_law_on_networks",
            "the logarithmic-time law measured on networks of 16 to 1024 dimensions and 2 to 32 classes",
            seed=14, version="1", seconds=3, fast_seconds=3,
        ),
        Figure(
            "guidance",
            "fig15_guidance",
            "guidance on exact classes: what it produces when, and where its distortion vanishes or stays",
            seed=15, version="1", seconds=17, fast_seconds=9,
        ),
        Figure(
            "guided-networks",
            "fig16_guided_networks",
            "guidance on trained networks: what it produces when, what commitment costs, grids",
            seed=16, version="1", seconds=4, fast_seconds=4,
        ),
        Figure(
            "schedules",
            "fig17_schedules",
            "guidance schedules by what commitment costs, and sampler grids timed by class information",
            seed=17, version="1", seconds=28, fast_seconds=14,
        ),
        Figure(
            "general-classes",
            "fig18_general_classes",
            "means, covariances or both: when classes of any shape are decided, and how that grows with d",
            seed=18, version="1", seconds=40, fast_seconds=8,
        ),
        Figure(
            "line-integral",
            "fig19_line_integral",
            "the integrand behind exact entropies of two Gaussian classes, and how fast its sums converge",
            seed=19, version="1", seconds=3, fast_seconds=2,
        ),
        Figure(
            "edm2-classes",
            "fig20_edm2_classes",
            "EDM2: many classes, each against the unconditional network, ranked by where half is decided",
            seed=20, version="1", seconds=0, fast_seconds=0, by_default=False, weights=("edm2-xs",),
        ),
        Figure(
            "edm2-partitions",
            "fig21_edm2_partitions",
            "EDM2: partitions of ImageNet level by level, by the class entropy and the published map",
            seed=21, version="1", seconds=0, fast_seconds=0, by_default=False, weights=("edm2-xs",),
        ),
        Figure(
            "sd15-prompts",
            "fig22_sd15_prompts",
            "Stable Diffusion 1.5: prompts that differ in one attribute",
            seed=22, version="1", seconds=0, fast_seconds=0, by_default=False, weights=("sd15",),
        ),
        Figure(
            "edm2-guidance",
            "fig23_edm2_guidance",
            "EDM2: entropy, information and cross-entropy under guidance schedules",
            seed=23, version="1", seconds=0, fast_seconds=0, by_default=False, weights=("edm2-xs",),
        ),
        Figure(
            "sd15-guidance",
            "fig24_sd15_guidance",
            "Stable Diffusion 1.5: entropy, information and cross-entropy under guidance schedules",
            seed=24, version="1", seconds=0, fast_seconds=0, by_default=False, weights=("sd15",),
        ),
        Figure(
            "edm2-u-turn",
            "fig25_edm2_u_turn",
            "EDM2: noised and denoised again, judged by DINOv2, beside the network's own posterior",
            seed=25, version="2", seconds=0, fast_seconds=0, by_default=False,
            weights=("edm2-xs", "sd-vae-ft-mse", "dinov2-l"),
        ),
        Figure(
            "sd15-u-turn",
            "fig26_sd15_u_turn",
            "Stable Diffusion 1.5: noised and denoised again, judged by CLIP, beside the network's own posterior",
            seed=26, version="2", seconds=0, fast_seconds=0, by_default=False, weights=("sd15", "clip-l"),
        ),
        Figure(
            "edm2-quality",
            "fig27_edm2_quality",
            "EDM2: FID, FD-DINOv2, precision and recall over guidance weight and interval, and the measured window",
            seed=27, version="1", seconds=0, fast_seconds=0, by_default=False,
            weights=("edm2-xs", "sd-vae-ft-mse", "inception-fid", "dinov2-l"),
        ),
    )
}  # fmt: skip
