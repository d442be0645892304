"""Decisions: which of a model's conditions are distinguished, and at which levels."""

from neural.decisions.decision import Decision, Level
from neural.decisions.files import FORMAT, Shipped, read_partition, shipped
from neural.decisions.words import by_classes, by_prompts, every_class

__all__ = [
    "FORMAT",
    "Decision",
    "Level",
    "Shipped",
    "by_classes",
    "by_prompts",
    "every_class",
    "read_partition",
    "shipped",
]
