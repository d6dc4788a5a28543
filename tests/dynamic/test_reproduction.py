"""Evaluations for the paper's tables: which rows there are, what they share, and the bound on activations."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torchvision
from dynamic.evaluations_for_tests import write_images
from networks_for_tests import trained

import plainvision as pv
from plainvision.dynamic import DynamicNetwork, Space, reproduction
from plainvision.dynamic.published import NETWORKS, published
from plainvision.dynamic.reproduction import Evaluations, Settings, table_1, table_3, with_views

SPACES = {
    "stride": Space(stride={"A": (1, 2), "D": (0.5, 1, 2)}, max_activations=1.5),
    "dilation": Space(dilation={"A": (1, 2), "D": (1, 2)}),
    "size": Space(size={"A": (1, 3), "B": (3, 5), "C": (3, 5)}),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Evaluations:
    place = tmp_path_factory.mktemp("reproduction")
    torch.manual_seed(0)
    network = trained(pv.create_model("resnet20_cifar", width=0.25, num_classes=3))
    data = replace(write_images(place), image_size=16)

    @contextmanager
    def progress(what):
        said.append(what)
        yield lambda *_: None

    said: list[str] = []
    made = Evaluations(network, data, place / "out", SPACES, "tiny", progress, settings=Settings(combine_limit=30))
    made.said = said
    return made


def test_strides_have_a_row_within_the_bound_and_one_without(found):
    rows = list(table_1("resnet50", found))
    assert [row["changes"] for row in rows] == ["stride", "dilation", "size", "stride, no bound"]
    within, whole = rows[0], rows[3]
    assert sum(within["left_out"].values()) == whole["permutations"] - within["permutations"] > 0
    assert (whole["left_out"], whole["permutations"]) == ({}, 6)
    assert whole["best"] >= within["best"]
    assert whole["worst"] <= within["worst"]
    assert whole["published"] == within["published"] == published("resnet50", ["stride"])
    assert list(whole["controls"]) == list(within["controls"])
    network = DynamicNetwork(found.model, space=replace(SPACES["stride"], max_activations=None), image_size=16)
    alone = pv.dynamic.evaluate(network, found.data)
    assert alone.bounds().best == whole["best"]
    assert {one.name: one.top1 for one in alone.controls()}["best of 6 random crops"] == whole["controls"][
        "random crops"
    ]
    assert [row["changes"] for row in table_1("resnet50", found, unbounded=False)] == ["stride", "dilation", "size"]


def test_the_network_looks_at_views_once_for_all_rows(found, monkeypatch):
    looked = []
    evaluate = reproduction.evaluate

    def noted(network, data, **given):
        looked.append((given["controls"], given["view_count"]))
        return evaluate(network, data, **given)

    monkeypatch.setattr(reproduction, "evaluate", noted)
    fresh = replace(found, out=found.out.with_name("again"))
    rows = list(table_3("other", fresh))
    assert [row["permutations"] for row in rows] == [5, 4, 8, 16, 16, 16, 27]
    assert [view for view in looked if view[0]] == [(True, 27)] * sum(controls for controls, _ in looked)
    assert all("input zooms" in row["controls"] and row["published"] is None for row in rows)
    one = pv.dynamic.Outcomes.load(fresh.out / "dilation" / "outcomes.safetensors")
    assert {name: view.shape[1] for name, view in one.views.items()} == {"input zooms": 4, "random crops": 4}


def test_a_space_without_a_bound_has_no_second_row(found):
    free = {**SPACES, "stride": replace(SPACES["stride"], max_activations=None)}
    assert replace(found, spaces=free, out=found.out.with_name("free")).unbounded_row() is None
    loose = {**SPACES, "stride": replace(SPACES["stride"], max_activations=1e9)}
    assert replace(found, spaces=loose, out=found.out.with_name("free")).unbounded_row() is None


def test_without_controls_there_are_no_views(found):
    bare = replace(found, out=found.out.with_name("bare"), settings=replace(found.settings, controls=False))
    assert list(bare.row(["dilation"])["controls"]) == [
        "labels shuffled",
        "mean softmax",
        "majority vote",
        "most confident",
    ]


def test_views_of_another_network_are_no_controls(found):
    one = pv.dynamic.Outcomes.load(found.out / "stride" / "outcomes.safetensors")
    with pytest.raises(ValueError, match=r"the views of tiny are no controls of tiny: weights or images differ\."):
        with_views(one, replace(one, fingerprint="0"))
    np.testing.assert_array_equal(with_views(one, one).predictions, one.predictions)


def test_memory_that_does_not_suffice_is_told_with_the_number_of_images(found, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(reproduction, "evaluate", full)
    with pytest.raises(ValueError, match=r"32 images a pass do not fit into memory with the size of tiny\. Give fewer"):
        replace(found, out=found.out.with_name("full")).row(["size"])


def test_what_is_published_is_found_by_network_and_attributes():
    assert published("resnet50", ["stride", "size"]) == {
        "static": 76.5,
        "worst": 0.0,
        "median": 35.3,
        "best": 95.8,
        "permutations": 625,
    }
    assert published("resnet50", ["dilation"], finetuned=True)["median"] == 76.0
    assert published("densenet121", ["size"])["permutations"] is None
    assert published("densenet121", ["stride", "size"]) is None
    assert published("vanillanet_5", ["size"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left_out"), [("resnet50", 39), ("resnext50", 38), ("mobilenetv2", 126), ("densenet121", 131)]
)
def test_the_bound_leaves_out_so_many_strides_of_the_paper_s_networks(name, left_out):
    own = NETWORKS[name]
    package, _, other = own.rpartition("/")
    with torch.device("meta"):
        model = torchvision.models.get_model(other, weights=None) if package else timm.create_model(own)
    network = DynamicNetwork(model, space="stride", image_size=224)
    assert (len(network.permutations), sum(network.left_out.values())) == (400 - left_out, left_out)
