"""Random options change what a step computes, and nothing else of a run: what is evaluated, saved or resumed."""

import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close
from training.recipes_for_tests import DIGITS, PLAIN
from training.test_resume import assert_same_run

import plainvision as pv
from plainvision.dynamic.levels import set_options
from plainvision.layers.dynamic_conv import DynamicLayer, Option
from plainvision.processes import TrainingInterrupted
from plainvision.training import Recipe, evaluation, loop, train
from plainvision.training.state import State
from plainvision.training.techniques import EMA, TECHNIQUES, NoEffectWarning, RandomOptions, Technique
from plainvision.training.weights_file import build_network, load_network, save_network

STRIDES = RandomOptions(attribute=None, stride={"A": (1, 2), "C": (1, 2, 3), "D": (0.5, 2)}, image_size=16)
NARROW = replace(
    PLAIN,
    name="narrow",
    model="resnet20_cifar",
    model_options={"width": 1 / 2, "in_chans": 1},
    data=replace(DIGITS, image_size=16, train_per_class=24, validation_per_class=5),
    batch_size=60,  # 4 steps an epoch
    epochs=2,
    techniques=(STRIDES,),
)


def options(model: nn.Module) -> tuple[Option, ...]:
    return tuple(layer.option for layer in model.modules() if isinstance(layer, DynamicLayer))


def started(recipe: Recipe) -> State:
    state = State(build_network(recipe, 10, 0))
    for technique in recipe.techniques:
        technique.start(state)
    return state


def drawn(technique: RandomOptions, state: State, steps: range) -> list[tuple[Option, ...]]:
    """The options of each step."""
    found = []
    for state.step in steps:
        technique.step_start(state)
        found.append(options(state.model))
        technique.step_end(state)
    return found


SEEN: dict[str, list[tuple[Option, ...]]] = {}


@dataclass(frozen=True)
class Witness(Technique):
    """Notes the options that the network has before and after each step."""

    def step_start(self, state):
        SEEN["before"].append(options(state.model))

    def step_end(self, state):
        SEEN["after"].append(options(state.model))


def test_a_step_has_random_options_and_all_else_the_trained_ones(tmp_path, monkeypatch):
    SEEN.update(before=[], after=[], evaluated=[])
    evaluate = evaluation.evaluate

    def noted(network, *given, **named):
        SEEN["evaluated"].append(options(network))
        return evaluate(network, *given, **named)

    monkeypatch.setattr(evaluation, "evaluate", noted)
    result = train(replace(NARROW, techniques=(STRIDES, Witness())), tmp_path)
    state = started(NARROW)
    assert len(state.notes[RandomOptions]) == 12
    assert SEEN["before"] == drawn(STRIDES, state, range(8))
    assert len(set(SEEN["before"])) > 3
    trained = options(state.model)
    assert set(trained) == {Option()}
    assert SEEN["after"] == [trained] * 8
    assert SEEN["evaluated"] == [trained] * 2
    assert options(result.network) == trained


def test_the_permutation_of_a_step_follows_from_seed_and_step_alone():
    state = started(NARROW)
    steps = range(40)
    first = drawn(STRIDES, state, steps)
    assert drawn(STRIDES, started(NARROW), steps[::-1]) == first[::-1]
    assert drawn(replace(STRIDES, seed=1), state, steps) != first


def test_every_permutation_is_as_likely_as_any_other():
    state = started(NARROW)
    counts = Counter(drawn(STRIDES, state, range(2400)))
    assert len(counts) == len(state.notes[RandomOptions]) == 12
    assert all(150 < count < 250 for count in counts.values())  # 200 within 3.7 standard deviations


@pytest.mark.parametrize(
    "values",
    [
        {"stride": {"D": (0.5, 1)}},
        {"dilation": (2, 3)},
        {"size": (1, 5)},
        {"stride": {"C": (1, 3)}, "size": {"A": (5,)}},
    ],
    ids=str,
)
def test_all_weights_learn_from_every_option(values):
    technique = RandomOptions(attribute=None, **values, image_size=16)
    state = started(replace(NARROW, techniques=(technique,)))
    x, labels = torch.randn(8, 1, 16, 16), torch.arange(8)
    before = state.model(x).detach()
    for permutation in state.notes[RandomOptions]:
        set_options(state.model, permutation)
        logits = state.model.train()(x)
        assert not torch.allclose(logits, before)
        state.model.zero_grad()
        F.cross_entropy(logits, labels).backward()
        for name, parameter in state.model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_a_run_with_random_options_ends_with_other_weights(tmp_path):
    plain = train(replace(NARROW, techniques=()), tmp_path / "plain").network.state_dict()
    other = train(NARROW, tmp_path / "other").network.state_dict()
    assert plain.keys() == other.keys()
    for name in ("conv1.weight", "layer2.0.conv1.weight", "linear.weight"):
        assert not torch.allclose(plain[name], other[name])


@pytest.mark.parametrize("stopped_at", [1, 6], ids=["in the first epoch", "in the second epoch"])
def test_a_run_that_is_stopped_and_resumed_draws_the_same_permutations(tmp_path, monkeypatch, stopped_at):
    recipe = replace(NARROW, techniques=(STRIDES, EMA(decay=0.8)))
    train(recipe, tmp_path / "unbroken")
    step = loop._Run.step

    def interrupted(run, batch):
        if run.state.step == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)
        step(run, batch)

    monkeypatch.setattr(loop._Run, "step", interrupted)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    result = train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")
    assert set(options(result.network)) == {Option()}  # the average never had others


def test_a_network_of_timm_trains_by_the_options_of_the_paper(tmp_path):
    recipe = replace(
        NARROW,
        model="test_resnet",
        model_options={"in_chans": 1},
        data=replace(NARROW.data, image_size=32),
        epochs=1,
        techniques=(RandomOptions("dilation", image_size=32),),
    )
    assert len(started(recipe).notes[RandomOptions]) == 5**4
    train(recipe, tmp_path)
    network, _ = load_network(tmp_path)
    plain = pv.create_model("test_resnet", in_chans=1, num_classes=10)
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    x = torch.randn(4, 1, 32, 32)
    assert_close(plain.eval()(x), network(x), rtol=0, atol=0)


def test_a_finished_run_loads_fuses_and_can_be_configured(tmp_path):
    trained = train(NARROW, tmp_path).network
    network, origin = load_network(tmp_path, "last")
    x = torch.randn(4, 1, 16, 16)
    assert_close(network(x), trained(x), rtol=0, atol=0)
    fused = pv.fuse(network, image_size=16)
    assert fused.report.argmax_agreement == 1
    file = tmp_path / "deployed.safetensors"
    save_network(file, fused.state_dict(), replace(origin, deployed=True))
    assert_close(load_network(file)[0](x), fused(x), rtol=0, atol=0)
    dynamic = pv.dynamic.DynamicNetwork(network, space=pv.dynamic.Space(stride={"A": (1, 2)}), image_size=16)
    with dynamic.configure({"A": 2}):
        assert not torch.allclose(dynamic(x), trained(x))
    assert_close(dynamic(x), trained(x), rtol=0, atol=0)


def test_a_trained_network_is_where_the_run_starts(tmp_path):
    source = pv.create_model(NARROW.model, num_classes=10, **NARROW.model_options).state_dict()
    save_file(source, tmp_path / "plain.safetensors")
    recipe = replace(NARROW, lr=1e-9, epochs=1, start_from=str(tmp_path / "plain.safetensors"))
    found = train(recipe, tmp_path / "run").network.state_dict()
    weights = [key for key in source if "running" not in key and "tracked" not in key]
    assert_close([found[key] for key in weights], [source[key] for key in weights], rtol=0, atol=1e-6)
    assert not torch.allclose(found["bn1.running_mean"], source["bn1.running_mean"])  # of all permutations


def test_options_survive_json():
    by_site = RandomOptions(None, stride={"A": (0.5, 1)}, size=(1, 3), sites={"A": "conv1"}, image_size=16, seed=3)
    for technique in (RandomOptions(), by_site):
        plain = json.loads(json.dumps(technique.to_dict()))
        assert TECHNIQUES[plain.pop("technique")](**plain) == technique
    recipe = replace(NARROW, techniques=(by_site,))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_single_permutation_has_no_effect_worth_the_name(tmp_path):
    alone = RandomOptions(attribute=None, dilation=(1,), image_size=16)
    with pytest.warns(NoEffectWarning, match=r"dilation=\(1,\).* has a single permutation, .*Give more values"):
        train(replace(NARROW, epochs=1, techniques=(alone,)), tmp_path)
    load_network(tmp_path)  # which trains nothing, and so warns of nothing


def test_a_compiled_network_is_warned_of():
    with pytest.warns(UserWarning, match=r"torch\.compile starts anew for each permutation.*Drop machine\.compile"):
        STRIDES.check(replace(NARROW, machine=replace(NARROW.machine, compile=True)))


@pytest.mark.parametrize(
    ("technique", "changes", "message"),
    [
        (replace(STRIDES, image_size=32), {}, r"image_size=32 .*trains on data\.image_size=16.*the same value"),
        (STRIDES, {"machine": replace(NARROW.machine, fsdp=True)}, r"does not work with machine\.fsdp.*Drop"),
        (replace(STRIDES, sites={"A": "stem"}), {}, r"site A is to be 'stem', and ResNetCifar has no layer"),
        (STRIDES, {"model": "test_vit", "model_options": {"img_size": 16}}, r"no sites are known for VisionTransf"),
        (replace(STRIDES, stride={"E": (1, 2)}), {}, r"unknown site 'E' in stride: the sites are A, B, C, D"),
        (replace(STRIDES, stride={"A": (0.3,)}), {}, r"stride=0\.3 is no option"),
        (replace(STRIDES, stride={"B": (2, 3)}), {}, r"none of 2 permutations can be computed"),
        (RandomOptions("depth"), {}, r"unknown attribute 'depth'"),
    ],
)
def test_what_cannot_work_is_an_error_before_the_first_step(tmp_path, technique, changes, message):
    with pytest.raises(ValueError, match=message):
        train(replace(NARROW, **changes, techniques=(technique,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_there_is_one_list_of_permutations():
    with pytest.raises(ValueError, match=r"two RandomOptions would undo each other's permutations"):
        STRIDES.check(replace(NARROW, techniques=(STRIDES, RandomOptions())))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": (1, 3)}, r"attribute='stride' takes the values of the paper, and size gives others.*attribute=None"),
        ({"attribute": None}, r"nothing changes\. Set attribute"),
    ],
)
def test_options_are_those_of_the_paper_or_given(values, message):
    with pytest.raises(ValueError, match=message):
        RandomOptions(**values)
