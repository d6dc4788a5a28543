"""A model card says what evaluation says, and what strangers call things is text in it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt
from networks_for_tests import trained
from PIL import Image

import plainvision as pv
from plainvision.hub.model_cards import escaped
from plainvision.intervals import share_interval
from plainvision.training import Data, Recipe
from plainvision.training.scores import calibration
from plainvision.training.techniques import DeepTraining
from plainvision.training.weights_file import Origin, build_network, save_network, save_temperature

NAMES = (
    "![x](http://a.b)",
    "*hat*",
    "<img src=x>",
    "| a | b",
    "`shoe`",
    "www.evil.com",
    "a@b.cd",
    "$x$",
    "&amp;",
    "_y_",
)
RECIPE = Recipe(
    "```\n# no", "vanillanet_5", {"width": 1 / 64}, data=Data(image_size=32), techniques=(DeepTraining(epochs=3),)
)


def network(folder, recipe=RECIPE, slope=1.0, names=NAMES):
    model = trained(build_network(recipe, len(names), 0))
    pv.set_slope(model, slope)
    save_network(folder / "best.safetensors", model.state_dict(), Origin(recipe, names, 0))
    return pv.hub.trained_network(folder / "best.safetensors")


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for number, name in enumerate(name.replace("/", "-") for name in NAMES):
        (tmp_path / "images" / "validation" / name).mkdir(parents=True)
        for image in range(1 + number % 3):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / "validation" / name / f"{image}.png")
    return Data(root=str(tmp_path / "images"), image_size=32, workers=0)


@pytest.fixture
def names():
    return tuple(sorted(name.replace("/", "-") for name in NAMES))


def html(card) -> str:
    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(card.text)


def test_names_are_text(tmp_path, images, names):
    found = network(tmp_path, names=names)
    card = pv.hub.model_card(found, data=images, repo="me/x")
    page = html(card)
    assert not re.search(r"<img|<em>|href|<h1>no|&amp;amp;amp", page)
    cells = re.findall(r"<td>(.*?)</td>", page)
    expected = [re.sub("<", "&lt;", re.sub(">", "&gt;", name.replace("&", "&amp;"))) for name in names]
    assert [cell for cell in cells if cell in expected] == expected
    assert page.count("<h1>") == 1
    assert "recipe ``` # no: vanillanet_5" in page  # the recipe's name, in its block


def test_what_a_page_would_link_is_escaped():
    assert escaped("www.evil.com a@b.cd http://x") == r"www\.evil\.com a\@b\.cd http\://x"
    assert escaped("a\nb\x1b[31m") == r"a\\nb\\x1b\[31m"


def test_the_figures_are_those_of_evaluation(tmp_path, images, names):
    found = network(tmp_path, names=names)
    scores = pv.training.evaluate(found.model, images, classes=names)
    card = pv.hub.model_card(found, data=images)
    low, high = (100 * one for one in share_interval(round(scores.top1 * scores.images / 100), scores.images))
    assert f"| top-1 | {scores.top1:.2f} % | {low:.1f} to {high:.1f} % |" in card.text
    assert f"On {scores.images} images of images, the split validation" in card.text
    assert [one.metric_value for one in card.data.eval_results] == [round(scores.top1, 2), round(scores.top5, 2)]
    fused = pv.fuse(found.model, image_size=32)
    for model in (found.model, fused):
        assert f"{sum(p.numel() for p in model.parameters()):,}" in card.text
    assert "techniques" not in card.text
    assert "DeepTraining(epochs=3)" in card.text
    assert "width" in card.text


def test_a_network_that_does_not_fuse_yet_has_one_form(tmp_path):
    text = pv.hub.model_card(network(tmp_path, slope=0.5)).text
    assert "deployed form" not in text
    assert "Not scored." in text
    assert "None was chosen" in text
    assert "hub:OWNER/NAME" in text


def test_a_temperature_is_told_and_used(tmp_path, images, names):
    network(tmp_path, names=names)
    save_temperature(tmp_path / "best.safetensors", 50.0)
    found = pv.hub.trained_network(tmp_path / "best.safetensors")
    scores = pv.training.evaluate(found.model, images, classes=names, temperature=50.0)
    text = pv.hub.model_card(found, data=images).text
    assert f"| calibration error | {calibration(scores.predictions).error:.1f} points |" in text
    assert "divided by the temperature 50;" in text


def test_without_images_the_card_tells_the_scores_of_the_run(tmp_path):
    lines = [
        '{"epoch": 0, "step": 1, "top1": 40.0}',
        '{"epoch": 1, "step": 2, "top1": 62.5}',
        '{"step": 3, "loss": 1.0}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    card = pv.hub.model_card(network(tmp_path), run=tmp_path)
    assert "the best epoch, number 2, had a top-1 of 62.50 % on the validation images" in card.text
    assert card.data.eval_results is None


def test_of_many_classes_the_worst_are_told(tmp_path):
    names = tuple(f"class {number}" for number in range(120))
    card = pv.hub.model_card(network(tmp_path, replace(RECIPE, name="many"), names=names))
    assert "class 99 and 20 more" in card.text
