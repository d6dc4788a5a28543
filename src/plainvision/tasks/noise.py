"""Batches of noise as large as any of a run, to try whether a training step fits into memory."""

import torch

from plainvision.tasks.boxes import BoxScenes
from plainvision.tasks.learning import LONGEST
from plainvision.tasks.scenes import SceneBatch
from plainvision.tasks.transforms import Target
from plainvision.training.recipe import Recipe


def noise_with_boxes(recipe: Recipe, scenes: BoxScenes, *, masks: bool) -> SceneBatch:
    """Return a detector's batch: images of the widest and the tallest shape, which share a pass, in turns.

    Each has as many objects as the fullest of ``scenes``.
    """
    size, most = recipe.data.image_size, max(len(scene.things) for scene in scenes.scenes)
    shapes = [scene.width / scene.height for scene in scenes.scenes]
    # A cut has a shape of its own.
    least, largest = (min(shapes), max(shapes)) if recipe.augment.scale == (1.0, 1.0) else recipe.augment.ratio
    tallest, widest = (round(size * min(max(shape, 1.0), LONGEST)) for shape in (1 / least, largest))
    sides = [(tallest, size), (size, widest)]

    def target(height: int, width: int) -> Target:
        corner, other = torch.rand(most, 2) * 0.5, torch.rand(most, 2) * 0.4 + 0.55
        boxes = torch.cat([corner, other], 1) * torch.tensor([width, height, width, height])
        found: Target = {"boxes": boxes, "labels": torch.arange(most) % len(scenes.classes) + 1}
        return found | ({"masks": torch.ones(most, height, width, dtype=torch.uint8)} if masks else {})

    turns = [sides[number % 2] for number in range(recipe.batch_size)]
    images = tuple(torch.rand(recipe.data.channels, *one) for one in turns)
    return SceneBatch(images, tuple(target(*one) for one in turns), (), ())


def noise_with_labels(recipe: Recipe, classes: int) -> SceneBatch:
    """Return a segmenter's batch: squares, and a class for each pixel."""
    size, count = recipe.data.image_size, recipe.batch_size
    images = tuple(torch.rand(count, recipe.data.channels, size, size))
    labels = torch.randint(classes, (count, size, size))
    return SceneBatch(images, tuple({"labels": one} for one in labels), (), ())
