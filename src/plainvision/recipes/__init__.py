"""Published runs, and small ones that run anywhere: each is a Python function that returns one `Recipe`.

    $ plainvision train vanillanet_digits --out runs/digits

A variant is the same recipe with other values::

    recipe = dataclasses.replace(get_recipe("vanillanet_6_imagenet"), name="mine", epochs=100, lr=2e-3)
"""

from plainvision.recipes import ablations as ablations
from plainvision.recipes import attention_pooling as attention_pooling
from plainvision.recipes import choosing as choosing
from plainvision.recipes import dynamic as dynamic
from plainvision.recipes import parameter_free as parameter_free
from plainvision.recipes import patchconvnet as patchconvnet
from plainvision.recipes import patchconvnet_finetuning as patchconvnet_finetuning
from plainvision.recipes import small as small
from plainvision.recipes import vanillanet as vanillanet
from plainvision.recipes.registry import describe as describe
from plainvision.recipes.registry import get_recipe as get_recipe
from plainvision.recipes.registry import list_recipes as list_recipes
from plainvision.recipes.registry import recipe as recipe
