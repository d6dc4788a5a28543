"""Timing in turns, on networks that take no time; nothing here depends on the machine's speed."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import plainvision as pv
from plainvision.bench import measure, measure_training_step


class Logging(nn.Module):
    """Writes its name into a log when it is called: (B, 3, H, W) -> the same."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name = name
        self.log = log

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(self.name)
        return x


def small_network(classes: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, classes),
    )  # fmt: skip


def test_a_network_gives_one_measurement_with_its_circumstances():
    model = small_network()
    (found,) = measure(model, image_size=(16, 24), batch_size=2, runs=5, warmup=1)
    assert found.name == "Sequential"
    assert found.parameters == 8 * 27 + 8 + 16 + 45
    assert found.macs == 16 * 24 * 8 * 27 + 40
    assert (found.batch_size, found.image_size, found.device, found.precision) == (2, (16, 24), "cpu", "no")
    assert found.threads == torch.get_num_threads()
    assert found.runs == 5
    assert 0 < min(found.times_ms) <= found.p50_ms <= found.p90_ms <= max(found.times_ms)
    assert found.images_per_second == pytest.approx(2000 / found.p50_ms)


def test_rounds_take_networks_in_turns():
    log: list[str] = []
    networks = {name: Logging(name, log) for name in "abc"}
    found = measure(networks, image_size=4, runs=3, warmup=0)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert "abcbcacab" in "".join(log)


def test_warm_up_rounds_do_not_count():
    log: list[str] = []
    (found,) = measure({"a": Logging("a", log)}, image_size=4, runs=2, warmup=7)
    first = len(log)
    measure({"a": Logging("a", log)}, image_size=4, runs=2, warmup=0)
    assert found.runs == 2
    assert first - (len(log) - first) == 7


def test_a_time_limit_stops_all_networks_after_the_same_round():
    found = measure({"a": small_network(), "b": small_network()}, image_size=8, runs=10**6, seconds=0.05)
    assert len({one.runs for one in found}) == 1
    assert found[0].runs < 10**6
    assert max(sum(one.times_ms) for one in found) >= 50


def test_networks_are_measured_in_eval_mode_and_left_as_they_were():
    model = small_network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, image_size=8, runs=1)
    measure_training_step(model, image_size=8, num_classes=5, batch_size=2, runs=2, warmup=0)
    assert [part.training for part in model] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_channels_last_run_on_copies(precision):
    seen = []
    model = small_network().eval()

    def look(module, inputs, output):  # the hook goes with the copy
        seen.append((output.dtype, output.is_contiguous(memory_format=torch.channels_last)))

    model[0].register_forward_hook(look)
    measure(model, image_size=8, runs=1, precision=precision, channels_last=True)
    assert set(seen) == {(torch.bfloat16 if precision == "bf16" else torch.float16, True)}
    assert model[0].weight.dtype == torch.float32
    assert model[0].weight.is_contiguous()


def test_peak_memory_grows_with_the_image():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    small, large = (measure(model, image_size=size, runs=1, warmup=1)[0].peak_memory_mb for size in (128, 384))
    if small is None or large is None:
        pytest.skip("the system does not tell the peak")
    assert large > 3 * small
    assert large > 2 * 16 * 384**2 * 4 / 1e6  # two maps at the least


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_training_step_is_measured(precision):
    networks = {"a": small_network(), "b": small_network()}
    found = measure_training_step(
        networks, image_size=8, num_classes=5, batch_size=2, runs=3, warmup=1, precision=precision
    )
    assert [one.name for one in found] == ["a", "b"]
    assert all(one.runs == 3 and one.precision == precision and one.p50_ms > 0 for one in found)


def test_a_training_step_goes_forward_and_backward_and_updates():
    log: list[str] = []
    model = small_network()  # hooks of modules go with the copy
    model[0].register_forward_hook(lambda module, *_: log.append("forward" if module.training else "count"))
    model[5].register_full_backward_hook(lambda *_: log.append("backward"))
    hook = register_optimizer_step_post_hook(lambda *_: log.append("update"))
    measure_training_step(model, image_size=8, num_classes=5, batch_size=2, runs=2, warmup=0)
    hook.remove()
    steps = [entry for entry in log if entry != "count"]
    assert steps == ["forward", "backward", "update"] * (len(steps) // 3)
    assert len(steps) >= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 is too small. Give 1 or more"),
        ({"runs": 0}, "runs=0 is too small"),
        ({"warmup": -1}, "warmup=-1 is too small. Give 0 or more"),
        ({"seconds": 0}, "seconds=0 leaves no time"),
        ({"image_size": (8, 0)}, "no image of 3 channels and 8x0 pixels"),
        ({"channels": 0}, "no image of 0 channels"),
        ({"precision": "int8"}, "unknown precision 'int8'. Give one of no, bf16, fp16"),
        ({"device": "cuda:99"}, "device='cuda:99' is not on this machine"),
        ({"device": "meta"}, "no weights to compute with"),
    ],
)
def test_wrong_circumstances_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measure(small_network(), **options)


@pytest.mark.parametrize("models", [{}, [small_network()], {"a": "resnet18"}, None])
def test_anything_but_networks_is_refused(models):
    with pytest.raises(ValueError, match=r"holds no networks by name. Give one nn\.Module, or a dict"):
        measure(models)


@pytest.mark.parametrize("time", [measure, measure_training_step])
def test_a_network_that_cannot_run_is_named(time):
    networks = {"good": small_network(1000), "bad": nn.Sequential(nn.Conv2d(7, 8, 1))}
    with pytest.raises(ValueError, match=r"bad cannot run on 2x3x8x8 on cpu .*7 channels.*Give the sizes"):
        time(networks, image_size=8, batch_size=2)


def test_a_network_with_another_answer_than_the_classes_is_named():
    with pytest.raises(
        ValueError, match=r"Sequential cannot run .*returns \(2, 5\) where num_classes=7 asks for \(2, 7\)"
    ):
        measure_training_step(small_network(5), image_size=8, batch_size=2, num_classes=7)
    with pytest.raises(ValueError, match="num_classes=0 is nothing to learn"):
        measure_training_step(small_network(5), num_classes=0)


def test_a_network_with_nothing_to_train_is_named():
    with pytest.raises(ValueError, match=r"frozen has no parameter that requires a gradient.*Unfreeze some"):
        measure_training_step({"frozen": small_network().requires_grad_(False)})


def test_networks_on_two_devices_need_one():
    with torch.device("meta"):
        elsewhere = small_network()
    with pytest.raises(ValueError, match=r"on several devices \(cpu, meta\). Give device="):
        measure({"a": small_network(), "b": elsewhere})


def test_the_public_name_is_the_function():
    assert pv.bench.measure is measure


@pytest.mark.slow
def test_a_compiled_network_is_measured():
    (found,) = measure(small_network(), image_size=8, runs=2, compile=True)
    assert found.compiled
    assert found.macs == 8 * 8 * 8 * 27 + 40


@pytest.mark.gpu
def test_a_gpu_is_measured_on_copies():
    model = small_network()
    for found in (
        measure(model, image_size=32, batch_size=4, runs=3, device="cuda", precision="bf16"),
        measure_training_step(model, image_size=32, num_classes=5, runs=3, device="cuda", precision="bf16"),
    ):
        assert found[0].device == "cuda:0"
        assert found[0].peak_memory_mb > 0
    assert model[0].weight.device.type == "cpu"


def test_a_network_that_writes_into_its_input_is_given_the_same_values_in_each_pass():
    seen = []

    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.sum().item())
            return x.sub_(0.5).mul_(4).mean((2, 3))

    measure(Writes(), image_size=4, runs=3, warmup=2)
    # The first pass, the one for the multiply-adds, of zeros, then those that are timed.
    timed = [value for value in seen[:-3] if value]
    assert len(timed) >= 6
    assert len(set(timed)) == 1
