"""A network that diverged is not kept, and a run whose numbers are doubtful says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from training.recipes_for_tests import PLAIN, TINY

from plainvision.data.rows import Batch
from plainvision.training import Machine, evaluation, learner, loop, train
from plainvision.training.class_loss import ClassLoss
from plainvision.training.evaluation import Evaluation
from plainvision.training.optimization import Optimization
from plainvision.training.state import State
from plainvision.training.techniques import EMA
from plainvision.training.verdict import doubts


def strict(folder: Path) -> list[dict]:
    def refused(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refused) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def poisoned_after(monkeypatch, last: int, value: float, *, average: bool = False) -> None:
    """Let step ``last``, whose loss is finite, leave a weight that is not."""
    step = loop._Run.step

    def poisoned(run, batch):
        step(run, batch)
        if run.state.step == last:
            network = run.state.kept if average else run.state.model
            next(network.parameters()).data.view(-1)[0] = value

    monkeypatch.setattr(loop._Run, "step", poisoned)


@pytest.mark.parametrize(("value", "average"), [(float("nan"), False), (float("inf"), False), (float("nan"), True)])
def test_weights_that_the_last_step_of_an_epoch_ruined_are_not_kept(tmp_path, monkeypatch, value, average):
    recipe = replace(TINY, techniques=(EMA(decay=0.5),) if average else ())
    poisoned_after(monkeypatch, 4, value, average=average)
    with pytest.raises(
        ValueError, match=r"weights are not finite after step 4: training has diverged.*from before and is kept"
    ):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] == 2
    saved = [state["model"], *(load_file(tmp_path / "run" / f"{kind}.safetensors") for kind in ("best", "last"))]
    assert all(torch.isfinite(tensor).all() for weights in saved for tensor in weights.values())
    assert [line["epoch"] for line in strict(tmp_path / "run") if "top1" in line] == [0]
    train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "whole")
    one, other = ((tmp_path / run / "last.safetensors").read_bytes() for run in ("run", "whole"))
    assert one == other


def test_a_network_that_diverges_in_its_first_epoch_leaves_nothing_and_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"diverged and was stopped\. .*run holds no checkpoint yet\. Start anew with"):
        train(replace(TINY, lr=1e20), tmp_path / "run")
    assert not [*(tmp_path / "run").glob("*.safetensors"), *(tmp_path / "run").glob("state.pt")]
    assert len(strict(tmp_path / "run")) >= 1


def test_a_checkpoint_inside_an_epoch_is_looked_at_too(tmp_path, monkeypatch):
    step = Optimization.step

    def poisoned(optimization, *given):
        answer = step(optimization, *given)
        next(optimization.model.parameters()).data.fill_(float("nan"))
        return answer

    monkeypatch.setattr(Optimization, "step", poisoned)
    with pytest.raises(ValueError, match=r"weights are not finite after step 1.*holds no checkpoint yet"):
        train(replace(TINY, machine=replace(TINY.machine, checkpoint_steps=1)), tmp_path / "run")


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    evaluate = evaluation.evaluate
    monkeypatch.setattr(
        evaluation, "evaluate", lambda *given, **named: replace(evaluate(*given, **named), loss=float("inf"))
    )
    with pytest.raises(ValueError, match=r"the validation loss is inf at step 2: training has diverged"):
        train(TINY, tmp_path / "run")
    assert not (tmp_path / "run" / "last.safetensors").exists()
    assert all("top1" not in line for line in strict(tmp_path / "run"))


class Tied(nn.Module):
    """Two layers with one weight, as a network with tied embeddings has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1024, 1024, bias=False)
        self.second = nn.Linear(1024, 1024, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(1024, 10)

    def forward(self, x):
        return self.head(self.second(self.first(x.flatten(1)).relu()).relu())


def test_tied_weights_are_saved_and_stay_tied(tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "build_network", lambda *_: Tied())
    result = train(replace(TINY, techniques=(EMA(decay=0.5),)), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert torch.equal(weights["first.weight"], weights["second.weight"])
    assert torch.equal(weights["first.weight"], result.network.first.weight.detach())
    again = train(replace(TINY, techniques=(EMA(decay=0.5),)), tmp_path / "run", resume=True)
    assert again.network.first.weight is again.network.second.weight


@pytest.mark.parametrize(("batch_size", "accumulate"), [(1, 1), (4, 4)])
def test_one_image_a_pass_is_refused_with_batch_norm_before_the_folder_exists(tmp_path, batch_size, accumulate):
    recipe = replace(TINY, batch_size=batch_size, machine=Machine(threads=1, accumulate=accumulate))
    with pytest.raises(
        ValueError, match=rf"batch_size={batch_size} with machine.accumulate={accumulate} passes one image.*Raise batch"
    ):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_image_a_pass_suits_a_network_without_batch_norm(tmp_path):
    data = replace(PLAIN.data, train_per_class=1, validation_per_class=1)
    assert train(replace(PLAIN, batch_size=1, data=data), tmp_path / "run").last.images == 10


def test_accumulation_says_what_it_does_to_batch_norms(tmp_path, capsys):
    recipe = replace(TINY, epochs=1, machine=replace(TINY.machine, accumulate=2))
    train(recipe, tmp_path / "norms", console=Console())
    said = " ".join(capsys.readouterr().out.split())
    assert "machine.accumulate=2: the network has batch norms, whose statistics are those of each pass's 10 im" in said
    data = replace(PLAIN.data, train_per_class=2, validation_per_class=1)
    recipe = replace(PLAIN, batch_size=20, data=data, machine=Machine(accumulate=2))
    train(recipe, tmp_path / "none", console=Console())
    said = capsys.readouterr().out
    assert "epoch 1/1" in said
    assert "batch norms" not in said


# what a run's end says about it


def scored(top1: float, images: int = 1000, largest_class: float = 10.0) -> Evaluation:
    return Evaluation(top1, top1, 2.0, images, largest_class, {})


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (scored(10.5), True),
        (scored(50.0), False),
        (scored(50.0, largest_class=50.0), True),  # half of the images are of one class
        (scored(12.5, images=100), True),
        (scored(13.0, images=100_000), False),
        (scored(100.0, images=3, largest_class=33.3), False),
        (scored(0.0), True),
    ],
)
def test_a_run_that_ends_at_chance_says_so(evaluation, said):
    found = doubts(evaluation, None, [])
    assert bool(found) == said
    if said:
        assert f"top-1 is {evaluation.top1:.2f} % of {evaluation.images} images (95 % interval" in found[0]
        assert f"naming the most frequent class each time scores {evaluation.largest_class:.2f} %" in found[0]


def test_a_loss_that_ends_above_where_it_began_is_said():
    rising = [{"step": 1, "loss": 2.3}, {"step": 2, "loss": 1.0}, {"step": 2, "top1": 50.0}, {"step": 3, "loss": 2.9e9}]
    assert doubts(scored(50.0), None, rising) == [
        "The training loss ends at 2.9e+09, above the 2.3 of its first steps. Give a lower lr, a longer warm-up or "
        "clip_grad."
    ]
    assert not doubts(scored(50.0), None, rising[:-1])


def test_an_average_that_is_far_from_the_weights_is_said_with_both_scores():
    (behind,) = doubts(scored(15.0), scored(60.0), [])
    assert "scores 15.00 % and the weights themselves 60.00 %. The average is behind: give more epochs" in behind
    (ahead,) = doubts(scored(60.0), scored(15.0), [])
    assert "scores 60.00 % and the weights themselves 15.00 %." in ahead
    assert "behind" not in ahead
    assert not doubts(scored(60.0), scored(60.5), [])


def test_a_run_with_an_average_scores_both_at_its_end(tmp_path, monkeypatch, capsys):
    evaluate, networks = evaluation.evaluate, []

    def counted(network, *given, **named):
        networks.append(network)
        return replace(evaluate(network, *given, **named), top1=20.0 + 70.0 * (len(networks) == 3), images=1000)

    monkeypatch.setattr(evaluation, "evaluate", counted)
    recipe = replace(TINY, techniques=(EMA(decay=0.5, warmup=False),))
    result = train(recipe, tmp_path / "run", console=Console())
    assert networks[:2] == [result.network] * 2
    assert networks[2] is not result.network
    assert "scores 20.00 % and the weights themselves 90.00 %" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_learned_nothing_says_so(tmp_path, capsys):
    result = train(replace(TINY, lr=1e-9), tmp_path / "run", console=Console())
    assert "The network has learned nothing that shows: top-1 is" in result.doubts[0]
    assert result.doubts[0] in capsys.readouterr().out


def test_a_short_run_does_not_keep_its_initial_weights_in_the_average():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    lasting, warm = State(model), State(model)
    average = EMA(decay=0.996)
    EMA(decay=0.996, warmup=False).start(lasting)
    average.start(warm)
    for step in range(1, 109):
        model.weight.data.fill_(1.0)
        lasting.step = warm.step = step
        EMA(decay=0.996, warmup=False).step_end(lasting)
        average.step_end(warm)
    assert warm.kept.weight.item() > 0.999
    assert lasting.kept.weight.item() < 0.5
    assert average == EMA(decay=0.996, warmup=True)


def test_the_step_with_accumulation_is_that_of_the_whole_batch_without_batch_norm():
    from accelerate import Accelerator

    batch = Batch(torch.randn(8, 1, 4, 4), torch.arange(8), (), ())
    weights = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
        recipe = replace(PLAIN, machine=Machine(accumulate=accumulate))
        Optimization(recipe, model, Accelerator(cpu=True), ClassLoss(recipe, 10), 1).step(batch, 0)
        weights.append(model[1].weight.detach())
    torch.testing.assert_close(weights[0], weights[1])
