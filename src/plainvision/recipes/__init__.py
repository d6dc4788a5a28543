"""Published runs, and small ones that run anywhere: each is a Python function that returns one `Recipe`.

    $ plainvision train vanillanet_digits --out runs/digits

A variant is the same recipe with other values::

    recipe = dataclasses.replace(get_recipe("vanillanet_6_imagenet"), name="mine", epochs=100, lr=2e-3)
"""

from plainvision.recipes import (
    ablations,
    attention_pooling,
    dynamic,
    parameter_free,
    patchconvnet,
    patchconvnet_finetuning,
    small,
    vanillanet,
)
from plainvision.recipes.registry import describe, get_recipe, list_recipes, recipe

__all__ = [
    "ablations",
    "attention_pooling",
    "describe",
    "dynamic",
    "get_recipe",
    "list_recipes",
    "parameter_free",
    "patchconvnet",
    "patchconvnet_finetuning",
    "recipe",
    "small",
    "vanillanet",
]
