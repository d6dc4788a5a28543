"""The learning-rate range test: what it sees, what it suggests, and that it leaves nothing behind."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from training.recipes_for_tests import EVERYTHING, PLAIN

from plainvision.training import learning_rates
from plainvision.training.learner import Learner
from plainvision.training.learning_rates import judged, range_test

RATES = np.geomspace(1e-5, 10, 100)


def curve(noise: float = 0.0, fall: float = 1.0) -> np.ndarray:
    """A loss that falls fastest at 1e-2 and diverges behind 1."""
    decades = np.log10(RATES)
    falling = 2.3 - fall / (1 + np.exp(-3 * (decades + 2)))
    return falling + np.where(decades > 0, 4 * decades, 0) + noise * np.random.default_rng(0).normal(size=100)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_known_curve_is_read_as_it_is_drawn(noise):
    test = judged(RATES.tolist(), curve(noise).tolist(), diverged=True)
    assert test.steepest == pytest.approx(1e-2, rel=0.6)
    assert 0.1 < test.lowest <= 1.5
    assert test.suggested == min(test.steepest, test.lowest / 10)
    assert test.diverged == RATES[-1]
    assert f"falls fastest at {test.steepest:.2g}, is lowest at {test.lowest:.2g} and diverges at 10." in test.reason


def test_noise_alone_suggests_nothing():
    for seed in range(20):
        losses = 2.3 + 0.1 * np.random.default_rng(seed).normal(size=100)
        test = judged(RATES.tolist(), losses.tolist(), diverged=False)
        assert test.suggested is None
        assert "no rate is suggested: in 100 steps" in test.reason
        assert "has not diverged at 10. Give more steps" in test.reason


def test_a_loss_that_is_not_finite_is_left_out_of_the_average():
    losses = [*curve()[:60].tolist(), float("nan")]
    test = judged(RATES[:61].tolist(), losses, diverged=True)
    assert len(test.rates) == len(test.losses) == len(test.smoothed) == 60
    assert all(map(np.isfinite, test.smoothed))
    assert test.diverged == RATES[60]


def test_the_same_recipe_gives_the_same_test_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (range_test(EVERYTHING, steps=24) for _ in range(2))  # nearly five epochs of five steps
    assert one == other
    assert len(one.rates) <= 24
    assert one.rates[0] == pytest.approx(1e-5)
    assert not list(tmp_path.iterdir())
    assert range_test(replace(EVERYTHING, lr=1.0, schedule="constant"), steps=24) == one  # these play no part
    assert range_test(replace(EVERYTHING, seed=1), steps=24) != one


def test_the_rates_rise_by_a_factor_for_every_layer(monkeypatch):
    step, seen = Learner.step, []

    def watched(learner, batch):
        taken = step(learner, batch)
        seen.append(
            [(group["lr"], group.get("lr_scale", 1.0)) for group in learner.optimization.optimizer.param_groups]
        )
        return taken

    monkeypatch.setattr(Learner, "step", watched)
    test = range_test(replace(EVERYTHING, layer_decay=0.5), low=1e-4, high=1e-2, steps=20)
    assert len({scale for _, scale in seen[0]}) > 2
    for rate, groups in zip(test.rates, seen, strict=True):
        assert [lr for lr, _ in groups] == pytest.approx([rate * scale for _, scale in groups])
    assert test.rates == pytest.approx(np.geomspace(1e-4, 1e-2, 20))


def test_a_loss_that_diverges_ends_the_test():
    test = range_test(replace(PLAIN, clip_grad=None), low=1e-3, high=1e4, steps=60)
    assert test.diverged is not None
    assert len(test.rates) < 60
    assert test.suggested is not None
    assert test.suggested < test.diverged / 10


def test_ctrl_c_ends_it_between_two_steps(monkeypatch):
    step = Learner.step

    def interrupted(learner, batch):
        signal.raise_signal(signal.SIGINT)
        return step(learner, batch)

    monkeypatch.setattr(Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the range test was stopped; it leaves nothing behind"):
        range_test(PLAIN)


@pytest.mark.parametrize("words", [{"low": 0.0}, {"low": 2.0, "high": 1.0}, {"high": float("inf")}, {"steps": 19}])
def test_what_cannot_be_is_refused(words):
    with pytest.raises(ValueError, match=r"give two finite rates above zero, the smaller one first, and 20 steps"):
        range_test(PLAIN, **words)


def test_data_that_do_not_fit_are_refused_as_by_a_run():
    with pytest.raises(ValueError, match=r"num_classes=3, but the data has 10 classes"):
        range_test(replace(PLAIN, num_classes=3))


def test_of_a_cross_validation_the_first_fold_is_tried():
    folds = replace(PLAIN, data=replace(PLAIN.data, folds=3))
    assert range_test(folds, steps=20) == range_test(replace(folds, data=replace(folds.data, fold=1)), steps=20)


def test_many_processes_are_refused(monkeypatch):
    class Two:
        num_processes = 2

    monkeypatch.setattr(learning_rates, "accelerator_for", lambda recipe: Two())
    with pytest.raises(ValueError, match=r"a range test runs in one process.*without a launcher"):
        range_test(PLAIN)


@pytest.mark.slow
def test_every_small_recipe_gets_a_test():
    from plainvision.recipes import get_recipe, list_recipes

    for name in [name for name in list_recipes() if name.endswith("_digits")]:
        test = range_test(get_recipe(name), steps=300)
        assert test.suggested is not None
        assert 1e-4 < test.suggested < 0.3
        assert torch.tensor(test.smoothed).isfinite().all()
