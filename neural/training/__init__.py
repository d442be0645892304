"""Training small class-conditional denoisers with optax: MLPs on mixtures, EDM2 networks on images."""

from neural.training.evaluation import Losses, level_losses, mixture_optimum, nearest_class
from neural.training.plans import TRAINED, Plan, data_plan, mixture_plan
from neural.training.tasks import ImageTask, VectorTask
from neural.training.trainer import Recipe, TrainingState, advance, start, train

__all__ = [
    "TRAINED",
    "ImageTask",
    "Losses",
    "Plan",
    "Recipe",
    "TrainingState",
    "VectorTask",
    "advance",
    "data_plan",
    "level_losses",
    "mixture_optimum",
    "mixture_plan",
    "nearest_class",
    "start",
    "train",
]
