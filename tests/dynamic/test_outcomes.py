"""What outcomes say, against plain computations that take one image after the other."""

import itertools
import math
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dynamic.outcomes_for_tests import answered, by_quality, made, same, strides, top1

from plainvision.dynamic import analyses
from plainvision.dynamic.outcomes import Outcomes
from plainvision.layers.dynamic_conv import Option


@pytest.fixture(params=range(3))
def outcomes(request) -> Outcomes:
    return made(seed=request.param)


@pytest.fixture
def few_rows(monkeypatch):
    """Let analyses take three images of twelve permutations at a time, so that the seams are tested too."""
    monkeypatch.setattr(analyses, "_VALUES_AT_A_TIME", 36)


def test_right_answers_are_those_that_equal_the_label(outcomes):
    for image, label in enumerate(outcomes.labels):
        assert outcomes.static_correct[image] == (outcomes.static_predictions[image] == label)
        for permutation, prediction in enumerate(outcomes.predictions[image]):
            assert outcomes.correct[image, permutation] == (prediction == label)


def test_bounds_are_the_predictions_of_worst_median_and_best_quality(outcomes):
    bounds = outcomes.bounds()
    for position, found in {11: bounds.worst, (12 - 1) // 2 + 1: bounds.median, 0: bounds.best}.items():
        # In descending order the median, at (n - 1) // 2 of the ascending one, is one further from the front.
        picked = [outcomes.predictions[i, by_quality(outcomes, i)[position]] for i in range(40)]
        assert found == top1(picked, outcomes)
    assert bounds.static == top1(outcomes.static_predictions.tolist(), outcomes)
    assert (bounds.permutations, bounds.images) == (12, 40)
    assert bounds.worst <= bounds.median <= bounds.best
    assert bounds.volatility == outcomes.volatility() == bounds.best - bounds.worst


@pytest.mark.parametrize(
    ("right", "median"),
    [([0, 0, 1], 0), ([0, 1, 1], 100), ([0, 0, 1, 1], 0), ([0, 1, 1, 1], 100), ([1], 100), ([0], 0)],
)
def test_the_median_of_an_even_number_is_the_lower_one(right, median):
    assert answered([right], [1]).bounds().median == median


def test_each_permutation_is_a_static_network(outcomes):
    assert outcomes.each().tolist() == [top1(outcomes.predictions[:, p].tolist(), outcomes) for p in range(12)]


def test_unique_predictions_are_counted_image_by_image(outcomes, few_rows):
    assert outcomes.unique_predictions().tolist() == [len(set(row)) for row in outcomes.predictions.tolist()]


def test_greedy_accumulation_takes_what_adds_most(outcomes):
    greedy = outcomes.greedy()
    won: set[int] = set()
    left = list(range(12))
    for index, best in zip(greedy.order, greedy.best, strict=True):
        gains = {p: len(set(np.flatnonzero(outcomes.correct[:, p]).tolist()) - won) for p in left}
        assert index == max(left, key=lambda p: (gains[p], -p))
        won |= set(np.flatnonzero(outcomes.correct[:, index]).tolist())
        left.remove(index)
        assert best == 100 * len(won) / 40
    assert not left
    assert greedy.best[-1] == outcomes.bounds().best


def test_the_first_steps_of_greedy_accumulation_are_those_of_all(outcomes):
    whole = outcomes.greedy()
    for k in range(1, 13):
        assert outcomes.greedy(k).order == whole.order[:k]
        assert outcomes.greedy(k).best == whole.best[:k]
        # What is said of the first k is what they reach alone.
        assert outcomes.select(whole.order[:k]).bounds().best == whole.best[k - 1]


def test_permutations_that_add_nothing_follow_in_the_order_of_their_indices():
    found = answered([[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], [1, 1, 1]).greedy()
    assert found.order == (2, 0, 1, 3)
    assert found.best == [pytest.approx(200 / 3)] * 4
    assert answered([[0, 0, 0]], [1]).greedy(2).order == (0, 1)
    assert answered([[0, 0, 0]], [1]).greedy(2).best == [0, 0]


@pytest.mark.parametrize("k", [0, -1, 13])
def test_greedy_accumulation_refuses_more_permutations_than_there_are_or_none(k):
    with pytest.raises(ValueError, match=rf"k={k}: there are 12 permutations\. Give a number from 1 to 12, or None"):
        made().greedy(k)


def test_a_selection_has_the_permutations_asked_for_in_that_order(outcomes):
    found = outcomes.select((7, 0, 3))
    assert found.permutations == tuple(outcomes.permutations[index] for index in (7, 0, 3))
    for name in ("predictions", "log_confidences", "log_tops"):
        np.testing.assert_array_equal(getattr(found, name), getattr(outcomes, name)[:, [7, 0, 3]], strict=True)
    assert found.macs.tolist() == [outcomes.macs[index] for index in (7, 0, 3)]
    assert found.mean_predictions is None
    for name, view in found.views.items():
        np.testing.assert_array_equal(view, outcomes.views[name][:, :3], strict=True)
    assert found.names == outcomes.names


def test_a_selection_of_all_keeps_the_mean_and_what_was_left_out():
    outcomes = made(left_out={"needs too much memory": 4})
    found = outcomes.select(range(11, -1, -1))
    assert found.mean_predictions is outcomes.mean_predictions
    assert found.left_out == outcomes.select([0]).left_out == {"needs too much memory": 4}
    assert found.bounds() == outcomes.bounds()


@pytest.mark.parametrize(
    ("indices", "what"),
    [([12], "no permutation 12"), ([-1], "no permutation -1"), ([], "one at least"), ([1, 1], "named once")],
)
def test_a_selection_of_what_is_not_there_is_refused(indices, what):
    with pytest.raises(ValueError, match=rf"cannot select from 12 permutations: .*{what}.*from 0 to 11"):
        made().select(indices)


def test_restricting_keeps_the_permutations_whose_other_sites_are_as_trained(outcomes):
    for sites, expected in {"A": 3, "B": 4, "AB": 12, "BA": 12, "": 1}.items():
        for given in (sites, tuple(sites)):
            found = outcomes.restrict(given)
            assert len(found.permutations) == expected
            for permutation in found.permutations:
                assert "A" in sites or permutation[0] == Option(stride=2)
                assert "B" in sites or permutation[1] == Option(stride=1)
            assert found.bounds().best <= outcomes.bounds().best
            assert found.bounds().worst >= outcomes.bounds().worst


def test_an_option_without_a_value_is_as_trained():
    listed = ((Option(), Option(stride=3)), (Option(stride=2), Option(stride=1)), (Option(stride=3), Option()))
    outcomes = made(options={"A": strides(1, 2, 3), "B": (Option(),)}, permutations=listed)
    assert outcomes.restrict("A").permutations == listed[1:]
    assert outcomes.restrict("B").permutations == listed[:2]


def test_restricting_to_an_unknown_site_names_those_there_are():
    with pytest.raises(ValueError, match=r"unknown site 'C': the sites are A, B\."):
        made().restrict("AC")
    long = made(options={"stem": strides(1, 2), "head": strides(1, 2)})
    with pytest.raises(ValueError, match=r"unknown site 'tail': the sites are stem, head\."):
        long.restrict(["stem", "tail"])


def test_restricting_to_nothing_says_that_the_trained_options_are_missing():
    with pytest.raises(ValueError, match=r"no permutation changes A alone: .* A 2, B 4 .*with the trained options"):
        made(default=strides(2, 4)).restrict("A")


def test_layer_choices_are_all_subsets_by_size_and_order():
    options = dict.fromkeys("ABCD", strides(1, 2))
    found = made(options=options, default=strides(1, 1, 1, 1), columns=16).layer_choices()
    assert " ".join(found) == "A B C D AB AC AD BC BD CD ABC ABD ACD BCD ABCD"
    assert all(len(choice.permutations) == 2 ** len(name) for name, choice in found.items())
    for name, choice in found.items():
        for more in found:
            if set(name) < set(more):
                assert choice.bounds().best <= found[more].bounds().best


def test_layer_choices_with_long_names_are_joined_by_a_plus():
    long = made(options={"stem": strides(1, 2), "head": strides(1, 2)}, columns=4)
    found = long.layer_choices()
    assert [*found] == ["stem", "head", "stem+head"]
    for name, choice in found.items():
        same(choice, long.restrict(name))


def test_the_preferred_permutation_has_the_highest_quality(outcomes, few_rows):
    found = outcomes.preferences()
    expected = [by_quality(outcomes, image)[0] for image in range(40)]
    assert found.preferred.tolist() == expected
    assert found.permutations.tolist() == [expected.count(p) / 40 for p in range(12)]
    assert found.permutations.sum() == pytest.approx(1)
    assert {site: [*shares] for site, shares in found.options.items()} == {"A": ["1", "2", "3"], "B": [*"½123"]}
    for place, (site, shares) in enumerate(found.options.items()):
        for option, share in shares.items():
            count = sum(str(outcomes.permutations[p][place]) == option for p in expected)
            assert share == count / 40, (site, option)


def test_confidences_too_near_1_for_float32_are_still_told_apart():
    logs = np.array([[-1e-9, -1e-12, -1e-10]], np.float32)
    assert len(set(np.exp(logs)[0])) == 1
    assert answered([[1, 1, 1]], [1], log_confidences=logs).preferences().preferred.tolist() == [1]
    assert answered([[0, 0, 0]], [1], log_confidences=logs).preferences().preferred.tolist() == [1]


def test_a_right_answer_is_preferred_to_any_confidence_and_ties_go_to_the_lower_index():
    impossible = -np.inf
    logs = np.array([[0, -3, -3], [-1, -1, -2], [impossible, impossible, 0]], np.float32)
    found = answered([[0, 1, 1], [0, 0, 0], [0, 1, 2]], [1, 1, 1], log_confidences=logs).preferences()
    assert found.preferred.tolist() == [1, 0, 1]


@pytest.mark.parametrize("like", ["static", "best"])
def test_the_cheapest_permutation_predicts_what_it_emulates(outcomes, few_rows, like):
    found = outcomes.cheapest(like)
    chosen, predicted, reference = [], [], []
    for image in range(40):
        best = by_quality(outcomes, image)[0]
        wanted = outcomes.predictions[image, best] if like == "best" else outcomes.static_predictions[image]
        fits = [p for p in range(12) if outcomes.predictions[image, p] == wanted]
        chosen.append(min(fits, key=lambda p: (outcomes.macs[p], p)) if fits else -1)
        predicted.append(int(wanted))
        reference.append(int(outcomes.macs[best]) if like == "best" else 450)
    costs = [450 if p < 0 else int(outcomes.macs[p]) for p in chosen]
    assert found.chosen.tolist() == chosen
    assert found.like == like
    assert found.accuracy == top1(predicted, outcomes)
    assert found.accuracy == getattr(outcomes.bounds(), like)
    assert found.mean_macs == pytest.approx(sum(costs) / 40)
    assert found.reference_macs == pytest.approx(sum(reference) / 40)
    assert found.factor == pytest.approx(sum(reference) / sum(costs))


def test_the_trained_network_stands_in_where_no_permutation_predicts_like_it():
    macs = np.array([300, 200, 200])
    static = np.array([3, 1, 1], np.uint16)
    outcomes = answered([[0, 1, 2], [1, 1, 1], [1, 0, 0]], [3, 1, 0], macs=macs, static_predictions=static)
    found = outcomes.cheapest("static")
    assert found.chosen.tolist() == [-1, 1, 0]
    assert found.accuracy == outcomes.bounds().static == pytest.approx(200 / 3)
    assert found.mean_macs == pytest.approx((450 + 200 + 300) / 3)
    assert found.reference_macs == 450
    assert found.factor == pytest.approx(3 * 450 / 950)


def test_only_the_static_network_and_the_best_case_can_be_emulated():
    with pytest.raises(ValueError, match=r"like='worst': give 'static', the trained network, or 'best'"):
        made().cheapest("worst")


def test_controls_are_what_the_same_number_of_answers_reaches(outcomes, few_rows):
    rows = {control.name: control for control in outcomes.controls()}
    assert [*rows] == [
        "best of 12 input zooms",
        "best of 12 random crops",
        "mean softmax of the 12",
        "majority vote",
        "most confident",
        "labels shuffled",
    ]
    votes, surest = [], []
    for predictions, tops in zip(outcomes.predictions.tolist(), outcomes.log_tops.tolist(), strict=True):
        counts = Counter(predictions)
        votes.append(min(counts, key=lambda c: (-counts[c], c)))
        surest.append(predictions[max(range(12), key=lambda p: (tops[p], -p))])
    assert rows["majority vote"].top1 == top1(votes, outcomes)
    assert rows["most confident"].top1 == top1(surest, outcomes)
    assert rows["mean softmax of the 12"].top1 == top1(outcomes.mean_predictions.tolist(), outcomes)
    for name, view in outcomes.views.items():
        right = [label in row[:12] for row, label in zip(view.tolist(), outcomes.labels.tolist(), strict=True)]
        assert rows[f"best of 12 {name}"].top1 == 100 * sum(right) / 40
    assert [control.uses_labels for control in rows.values()] == [True, True, False, False, False, True]
    assert all(control.note for control in rows.values())


def test_a_vote_that_is_a_tie_goes_to_the_lowest_class():
    outcomes = answered([[7, 3, 3, 7, 5], [9, 9, 1, 2, 3], [4, 4, 4, 4, 4], [8, 6, 4, 2, 0]], [3, 9, 4, 0])
    assert {c.name: c.top1 for c in outcomes.controls()}["majority vote"] == 100


def test_too_few_views_are_no_control_and_the_note_says_so():
    outcomes = made()
    views = {"input zooms": outcomes.views["input zooms"][:, :5], "random crops": outcomes.views["random crops"]}
    controls = replace(outcomes, views=views, mean_predictions=None).controls()
    assert [c.name for c in controls] == [
        "best of 12 random crops",
        "majority vote",
        "most confident",
        "labels shuffled",
    ]
    assert "fewer than 12 views: 5 input zooms" in controls[-1].note
    assert "fewer than" not in outcomes.controls()[-1].note


def test_shuffled_labels_cover_what_chance_covers():
    random = np.random.default_rng(0)
    predictions = random.integers(0, 50, (2000, 12)).astype(np.uint16)
    labels = random.integers(0, 50, 2000).astype(np.uint16)
    # One prediction misses a label in 49 of 50 cases, and there are 12.
    assert analyses.shuffled_coverage(predictions, labels) == pytest.approx(100 * (1 - 0.98**12), abs=0.5)
    assert analyses.shuffled_coverage(predictions, labels) == analyses.shuffled_coverage(predictions, labels)
    right = np.repeat(labels[:, None], 12, axis=1)
    assert analyses.shuffled_coverage(right, labels) == pytest.approx(2, abs=0.3)


def test_scores_say_which_rows_are_those_of_an_oracle(outcomes):
    rows = outcomes.scores()
    bounds = outcomes.bounds()
    assert [row["what"] for row in rows[:4]] == ["static", "worst", "median", "best"]
    assert [row["top-1 %"] for row in rows[:4]] == [bounds.static, bounds.worst, bounds.median, bounds.best]
    assert [row["uses the labels"] for row in rows[:4]] == ["no"] + ["yes: an oracle"] * 3
    for row, control in zip(rows[4:], outcomes.controls(), strict=True):
        answer = "yes: an oracle" if control.uses_labels else "no"
        assert row == {"what": control.name, "top-1 %": control.top1, "uses the labels": answer}


def attribute(name: str, count: int = 5, **changed: Any) -> Outcomes:
    """Return outcomes of one attribute at two sites, count x count permutations."""
    options = tuple(Option(**{name: 1 + value}) for value in range(count))
    default = (Option(**{name: 1}),) * 2
    return made(images=12, options={"A": options, "B": options}, default=default, **changed)


def test_combined_attributes_are_the_product_of_each_ones_first_permutations():
    stride, dilation = attribute("stride", seed=1), attribute("dilation", seed=2)
    space = stride.combine(dilation, limit=20)  # 4 x 4 are 16, 5 x 5 were 25
    assert space.attributes == ("stride", "dilation")
    assert len(set(space.chosen)) == len(space.chosen) == 16
    first, second = stride.greedy(4).order, dilation.greedy(4).order
    for permutation, (one, other) in zip(space.chosen, itertools.product(first, second), strict=True):
        for merged, a, b in zip(permutation, stride.permutations[one], dilation.permutations[other], strict=True):
            assert merged == Option(stride=a.stride, dilation=b.dilation)


@pytest.mark.parametrize(("names", "each", "total"), [(("size",), 25, 625), (("size", "dilation"), 8, 512)])
def test_the_number_of_permutations_per_attribute_is_that_of_table_3(names, each, total):
    space = attribute("stride").combine(*[attribute(name, seed=3) for name in names])
    assert len(space.chosen) == total
    assert len({tuple(option.stride for option in permutation) for permutation in space.chosen}) == each


def test_a_limit_of_a_whole_power_is_reached_exactly():
    for limit, total in {1: 1, 3: 1, 4: 4, 8: 4, 9: 9}.items():
        assert len(attribute("stride").combine(attribute("size"), limit=limit).chosen) == total


def test_outcomes_that_do_not_fit_together_do_not_combine():
    stride = attribute("stride")
    with pytest.raises(ValueError, match=r"tiny \(0123, sites A, B\) .*other \(9, sites A, B\): it is another network"):
        stride.combine(attribute("size", network="other", fingerprint="9"))
    with pytest.raises(ValueError, match="or has other sites"):
        stride.combine(attribute("size", sites={"A": "layerA", "C": "layerC"}))
    with pytest.raises(ValueError, match="stride changes in two of the outcomes"):
        stride.combine(attribute("size"), attribute("stride"))
    with pytest.raises(ValueError, match=r"25 permutations of each of 2 .* one has 16\. Give a limit of 256"):
        stride.combine(attribute("size", count=4))
    assert len(stride.combine(attribute("size", count=4), limit=256).chosen) == 256
    with pytest.raises(ValueError, match="nothing to combine"):
        stride.combine()
    with pytest.raises(ValueError, match="a limit from 1"):
        stride.combine(attribute("size"), limit=0)


def test_layers_at_a_site_may_differ_by_attribute():
    pooled = attribute("stride", sites={"A": "pool1", "B": "pool2"})
    assert len(pooled.combine(attribute("size")).chosen) == 625


def test_a_table_has_one_row_for_each_image_and_permutation(outcomes):
    pytest.importorskip("pandas")
    table = outcomes.to_pandas()
    assert [*table.columns] == ["image", "label", "A", "B", "prediction", "confidence", "correct"]
    assert len(table) == 40 * 12
    rows = table.itertuples(index=False)
    for image, permutation in itertools.product(range(40), range(12)):
        row = next(rows)
        assert row.image == outcomes.names[image]
        assert row.label == outcomes.labels[image]
        assert [str(option) for option in outcomes.permutations[permutation]] == [row.A, row.B]
        assert row.prediction == outcomes.predictions[image, permutation]
        assert row.confidence == pytest.approx(math.exp(outcomes.log_confidences[image, permutation]))
        assert row.correct == outcomes.correct[image, permutation]
    by_option = 100 * table.groupby("A", observed=True).correct.mean()
    for option in ("1", "2", "3"):
        alone = [p for p in range(12) if str(outcomes.permutations[p][0]) == option]
        assert by_option[option] == pytest.approx(outcomes.each()[alone].mean())


def test_a_table_of_images_with_one_name_keeps_all_rows():
    pytest.importorskip("pandas")
    table = made(names=("same",) * 40).to_pandas()
    assert table.image.tolist() == ["same"] * 480


def test_a_table_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs the package `pandas`, which is not installed\. pip install pandas"):
        made().to_pandas()


def test_one_permutation_on_one_image_is_enough(tmp_path):
    for prediction, best in ((1, 100), (0, 0)):
        outcomes = answered([[prediction]], [1], views={})
        bounds = outcomes.bounds()
        assert (bounds.worst, bounds.median, bounds.best, bounds.volatility) == (best, best, best, 0)
        assert outcomes.greedy().order == (0,)
        assert outcomes.greedy().best == [best]
        assert outcomes.unique_predictions().tolist() == [1]
        assert outcomes.preferences().options == {"A": {"1": 1}}
        assert outcomes.cheapest("best").chosen.tolist() == [0]
        assert {c.top1 for c in outcomes.controls() if c.name != "mean softmax of the 1"} == {best}
        assert [*outcomes.layer_choices()] == ["A"]
        outcomes.save(tmp_path / "one.safetensors")
        same(Outcomes.load(tmp_path / "one.safetensors"), outcomes)
