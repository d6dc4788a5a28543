"""Outcomes in a file, and outcomes that do not fit together."""

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dynamic.outcomes_for_tests import ARRAYS, made, same, strides
from safetensors.numpy import load_file, save_file

from plainvision.dynamic.outcomes import Outcomes


def test_outcomes_come_back_from_a_file_as_they_were(tmp_path):
    outcomes = made(
        condition={"scale": 0.1}, left_out={"too much memory": 3}, names=tuple(f"é\udc80/{i}" for i in range(40))
    )
    outcomes.save(tmp_path / "new" / "outcomes.safetensors")
    found = Outcomes.load(tmp_path / "new" / "outcomes.safetensors", fingerprint="0123")
    same(found, outcomes)
    assert [*found.views] == ["input zooms", "random crops"]
    assert found.cheapest("best").factor == outcomes.cheapest("best").factor
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["outcomes.safetensors"]


def test_what_was_selected_or_is_of_another_type_comes_back_too(tmp_path):
    whole = made()
    # Views that are cut and arrays in the order of columns do not lie in memory as they read.
    cut = replace(whole.select((5, 2)), log_tops=np.asfortranarray(whole.log_tops[:, [5, 2]]))
    wide = {name: getattr(whole, name).astype(np.uint32) for name in ARRAYS if getattr(whole, name).dtype == np.uint16}
    many = replace(whole, classes=100_000, views={}, static_macs=np.int64(7), **wide)
    for outcomes in (cut, many, replace(whole, mean_predictions=None)):
        outcomes.save(tmp_path / "outcomes.safetensors")
        same(Outcomes.load(tmp_path / "outcomes.safetensors"), outcomes)


def test_a_file_that_is_not_there_is_answered_with_those_nearby(tmp_path):
    made().save(tmp_path / "stride.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no outcomes at .*strid\.safetensors\. Nearby: stride\.safetensors\."):
        Outcomes.load(tmp_path / "strid.safetensors")
    with pytest.raises(FileNotFoundError, match=r"Give a file that an evaluation, or `Outcomes\.save`, wrote"):
        Outcomes.load(tmp_path / "nowhere" / "x")


def test_a_file_that_is_cut_off_or_no_outcomes_is_refused(tmp_path):
    path = tmp_path / "outcomes.safetensors"
    made().save(path)
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"outcomes\.safetensors is not a whole safetensors file .*Copy or download it again"
        ):
            Outcomes.load(path)
    save_file({"weight": np.zeros(3, np.float32)}, path, metadata={"plainvision": "{}"})
    with pytest.raises(ValueError, match="holds no outcomes"):
        Outcomes.load(path)


def changed_header(path, **changed: Any) -> dict[str, str]:
    """Return the metadata of outcomes with another header, None leaving a key out."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["plainvision_outcomes"])
    whole = {key: value for key, value in {**header, **changed}.items() if value is not None}
    return {"plainvision_outcomes": json.dumps(whole)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"names": None}, r"is damaged \(header lacks the field 'names'"),
        ({"classes": 2}, r"is damaged \(labels outside the classes"),
        ({"views": ["a", "b", "c"]}, r"is damaged \(the array 'views\.2' is lost\)"),
        ({"permutations": [[{"pace": 1}]]}, "is damaged"),
        ({"version": 2}, r"has version 2 of the format, and this plainvision reads 1\."),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, changed, words):
    path = tmp_path / "outcomes.safetensors"
    made().save(path)
    save_file(load_file(path), path, metadata=changed_header(path, **changed))
    with pytest.raises(ValueError, match=words):
        Outcomes.load(path)


def test_the_outcomes_of_another_network_are_refused_by_its_name(tmp_path):
    made(network="resnet50").save(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="of another network: resnet50 with fingerprint 0123, and 4567 is wanted"):
        Outcomes.load(tmp_path / "x.safetensors", fingerprint="4567")


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        made().save(tmp_path / "file" / "outcomes.safetensors")


def test_a_label_outside_the_classes_is_named():
    labels = made().labels.copy()
    labels[7] = 9
    words = r"labels outside the classes: class/7\.jpg has label 9, and the network has 5 classes, 0 to 4\. Give a netw"
    with pytest.raises(ValueError, match=words):
        made(labels=labels)


@pytest.mark.parametrize("name", ["predictions", "static_predictions", "mean_predictions"])
def test_a_prediction_outside_the_classes_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name} has class 6, and the network has 5, counted from 0"):
        made(**{name: np.full_like(getattr(made(), name), 6)})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"names": ()}, "0 images and 12 permutations"),
        ({"permutations": ()}, "40 images and 0 permutations"),
        ({"default": strides(1)}, "a permutation has 1 options, and there are 2 sites"),
        ({"names": ("a",) * 41}, r"labels is uint16 of shape \(40,\), and must be uint16 of shape \(41,\)"),
        ({"macs": np.ones(12)}, r"macs is float64 of shape \(12,\), and must be int64"),
        ({"macs": np.ones(11, np.int64)}, r"macs .* must be int64 of shape \(12,\)"),
        ({"labels": np.zeros(40, np.int64)}, "labels is int64 .* must be uint16"),
        ({"predictions": np.zeros((40, 12), np.int64)}, "predictions are int64. Make them uint16, or uint32 above"),
        ({"predictions": np.zeros((40, 11), np.uint16)}, r"predictions .* must be uint16 of shape \(40, 12\)"),
        ({"log_tops": np.zeros((40, 12))}, "log_tops is float64 .* must be float32"),
        (
            {"log_confidences": np.full((40, 12), np.nan, np.float32)},
            r"log_confidences is NaN for class/0\.jpg at A 1, B ½: the net",
        ),
        ({"mean_predictions": np.zeros(3, np.uint16)}, "mean_predictions"),
        ({"views": {"zooms": np.zeros((39, 4), np.uint16)}}, r"views\['zooms'\] .*shape \(39, 4\)"),
        ({"views": {"zooms": np.zeros((40, 4), np.uint32)}}, r"views\['zooms'\] is uint32"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        made(**changed)


def test_fifty_thousand_images_and_625_permutations_fit_into_8_gb(tmp_path):
    outcomes = made(images=64, columns=12)
    each = [getattr(outcomes, name) for name in ("predictions", "log_confidences", "log_tops")]
    assert sum(array.itemsize for array in each) == 10
    assert {view.itemsize for view in outcomes.views.values()} == {2}
    path = tmp_path / "outcomes.safetensors"
    outcomes.save(path)
    content = path.read_bytes()
    stored = len(content) - 8 - int.from_bytes(content[:8], "little")
    # Beside what is kept of each outcome there are three classes per image, and the costs.
    assert stored == 64 * 12 * (10 + 2 * 2) + 64 * 3 * 2 + 12 * 8
    names = 50_000 * 100  # in the header
    assert 50_000 * 625 * (10 + 2 * 2) + 50_000 * 3 * 2 + 625 * 8 + names < 0.45e9 < 8e9


@pytest.mark.slow
def test_every_analysis_of_fifty_thousand_images_takes_little_memory(tmp_path):
    options = dict.fromkeys("ABCD", strides(1, 2, 3, 4, 5))
    outcomes = made(images=50_000, options=options, default=strides(1, 1, 1, 1), classes=1000, columns=625)
    names = ("bounds", "each", "unique_predictions", "greedy", "preferences", "scores", "layer_choices")
    for analysis in (
        *(getattr(outcomes, name) for name in names),
        lambda: outcomes.cheapest("static"),
        lambda: outcomes.cheapest("best"),
        lambda: outcomes.save(tmp_path / "outcomes.safetensors"),
        lambda: Outcomes.load(tmp_path / "outcomes.safetensors"),
    ):
        tracemalloc.start()
        analysis()
        assert tracemalloc.get_traced_memory()[1] < 1.5e9
        tracemalloc.stop()
