"""Small runs that are compared with each other differ in one thing alone."""

import dataclasses

from plainvision.recipes import get_recipe


def test_resnet18_trains_as_the_vanillanet_that_it_is_compared_with():
    ours, other = get_recipe("vanillanet_clothing"), get_recipe("resnet18_clothing")
    same = dataclasses.replace(
        other, name=ours.name, model=ours.model, model_options=ours.model_options, techniques=ours.techniques
    )
    assert same == ours


def test_attention_and_average_pooling_meet_on_clothing_with_nothing_else_changed():
    attention, average = get_recipe("patchconvnet_clothing"), get_recipe("patchconvnet_clothing_average")
    options = {**attention.model_options, "pooling": "average"}
    assert average == dataclasses.replace(attention, name=average.name, model_options=options)


def test_pooling_and_convolution_meet_on_clothing_with_nothing_else_changed():
    pooling, hybrid, convolution = (get_recipe(f"resnet50_{kind}_clothing") for kind in ("max", "hybrid", "conv"))
    assert hybrid == dataclasses.replace(pooling, name=hybrid.name, model="resnet50_hybrid")
    options = {**pooling.model_options, "pooled": "none"}
    assert convolution == dataclasses.replace(pooling, name=convolution.name, model_options=options)
