import copy

import pytest
import timm
import torch
import torchvision
from networks_for_tests import trained
from torch import nn
from torch.testing import assert_close

import plainvision as pv
from plainvision.layers import LinearPair, SeriesActivation
from plainvision.surgery import merge_pairs

TINY = {"width": 1 / 64}


def finished(name: str = "vanillanet_8", **options) -> nn.Module:
    model = trained(pv.create_model(name, **{**TINY, **options}))
    pv.set_slope(model, 1)
    return model


@pytest.mark.parametrize("name", pv.list_models("vanillanet"))
def test_fusing_changes_the_form_and_not_the_answer(name, images):
    model = finished(name)
    before = model(images)
    fused = pv.fuse(model)
    assert_close(fused(images), before, rtol=0, atol=1e-4 * before.abs().max().item())
    assert_close(model(images), before, rtol=0, atol=0)  # the original is untouched
    assert not fused.training
    assert fused.form == "deployed"


@pytest.mark.parametrize("options", [{}, {"series": 0}, {"linear_pairs": False}, {"in_chans": 1, "num_classes": 3}])
def test_a_fused_network_is_the_network_built_deployed(options, tmp_path):
    fused = pv.fuse(finished(**options))
    built = pv.create_model("vanillanet_8", **{**TINY, **options}, deployed=True).eval()
    layout = {key: (value.shape, value.stride(), value.dtype) for key, value in built.state_dict().items()}
    assert {key: (value.shape, value.stride(), value.dtype) for key, value in fused.state_dict().items()} == layout
    children = [module for module in fused.modules() if module is not fused]
    assert all(type(module).__module__.startswith("torch.nn.") for module in children)
    torch.save(fused.state_dict(), tmp_path / "fused.pth")
    pv.load_checkpoint(built, tmp_path / "fused.pth")
    x = torch.randn(2, options.get("in_chans", 3), 64, 64)
    assert_close(built(x), fused(x), rtol=0, atol=0)


def test_the_report_says_what_fusing_did():
    report = pv.fuse(finished(), images=5).report
    assert report.images == 5
    assert 0 <= report.largest_relative_error < 1e-5
    assert report.largest_absolute_error > 0  # two different computations: an exact zero would mean no comparison
    assert report.argmax_agreement == 1
    assert report.layers_after < report.layers_before
    assert report.parameters_after < report.parameters_before
    assert "same class for 100%" in str(report)


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.999])
def test_a_half_trained_network_refuses_to_fuse(slope):
    model = finished()
    pv.set_slope(model, slope)
    with pytest.raises(ValueError, match=rf"slope={slope}.*Finish the `DeepTraining` schedule"):
        pv.fuse(model)


def test_one_pair_at_another_slope_is_enough_to_refuse():
    model = finished()
    model.stages[3].conv.slope.fill_(0.9)
    with pytest.raises(ValueError, match=r"slope=0\.9"):
        pv.fuse(model)


def test_fusing_refuses_when_the_answers_would_differ():
    model = finished()
    with pytest.raises(ValueError, match=r"changes its answers by .* more than the tolerance of 0e\+00"):
        pv.fuse(model, tolerance=0)
    model.stages[0].act.norm.running_var.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"changes its answers by nan"):
        pv.fuse(model)


def test_fusing_a_deployed_network_says_that_there_is_nothing_to_fuse():
    with pytest.raises(ValueError, match=r"nothing to fuse in VanillaNet"):
        pv.fuse(pv.create_model("vanillanet_5", **TINY, deployed=True))


def test_a_network_in_training_mode_is_fused_as_it_is_evaluated(images):
    model = finished()
    expected = model(images)
    assert_close(pv.fuse(model.train())(images), expected, rtol=1e-4, atol=1e-4)
    assert model.training


def test_bfloat16_weights_fuse_within_their_own_precision():
    fused = pv.fuse(finished().to(torch.bfloat16))
    assert fused.stem.conv.weight.dtype == torch.bfloat16


def test_batch_norms_without_statistics_cannot_be_folded():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match=r"without running statistics.*depends on the batch"):
        pv.fuse(model)


@pytest.mark.parametrize("build", [lambda: timm.create_model("resnet18"), torchvision.models.resnet18])
def test_batch_norms_of_other_networks_fold_wherever_they_are_written(build, images):
    model = trained(build())
    fused = pv.fuse(model, image_size=64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert type(fused) is type(model)
    expected = model(images)
    assert_close(fused(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_timms_batch_norm_with_an_activation_folds_and_keeps_the_activation(images):
    model = trained(timm.create_model("regnetx_002"))
    fused = pv.fuse(model, image_size=64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    expected = model(images)
    assert_close(fused(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


class _TwoReaders(nn.Module):
    """The convolution's output is read by the norm and by somebody else: it must not be folded."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.conv = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(self.first(x))
        return (self.norm(x) + x).mean((2, 3))


def test_a_convolution_that_somebody_else_reads_keeps_its_norm(images):
    model = trained(_TwoReaders())
    fused = pv.fuse(model)
    assert isinstance(fused.norm, nn.BatchNorm2d)
    assert isinstance(fused.first, nn.Conv2d)
    assert_close(fused(images), model(images), rtol=1e-5, atol=1e-5)


def test_merging_pairs_keeps_the_answer_and_a_norm_to_train_on(images):
    model = finished(num_classes=5)
    merged = merge_pairs(model)
    assert_close(merged(images), model(images), rtol=1e-4, atol=1e-4)
    built = pv.create_model("vanillanet_8", **TINY, num_classes=5, linear_pairs=False)
    assert {k: v.shape for k, v in merged.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}
    assert_close(pv.fuse(merged)(images), model(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"no linear pair to merge"):
        merge_pairs(merged)


def test_layers_fold_alone():
    pair = LinearPair(
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(6)),
        nn.Sequential(nn.Conv2d(6, 8, 1, groups=2), nn.BatchNorm2d(8)),
    )
    pair = trained(pair)
    pair.slope.fill_(1)
    series = trained(SeriesActivation(8, 2))
    x = torch.randn(2, 4, 9, 7)
    assert_close(pair.fuse()(x), pair(x), rtol=1e-4, atol=1e-5)
    assert_close(series.fuse()(pair(x)), series(pair(x)), rtol=1e-4, atol=1e-5)


def test_a_pair_whose_second_part_is_no_matrix_is_refused():
    pair = LinearPair(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)), slope=1.0)
    with pytest.raises(ValueError, match=r"only a 1x1 convolution of stride 1.*Put the KxK convolution first"):
        pair.fuse()


def test_the_slope_is_part_of_the_state_and_of_the_average():
    from timm.utils.model_ema import ModelEmaV3

    model = pv.create_model("vanillanet_5", **TINY)
    assert pv.set_slope(model, 0.3) == 5
    again = pv.create_model("vanillanet_5", **TINY)
    again.load_state_dict(model.state_dict())
    assert [pair.slope.item() for pair in again.modules() if isinstance(pair, LinearPair)] == pytest.approx([0.3] * 5)
    average = ModelEmaV3(model, decay=0.9)
    average.update(model)
    assert average.module.stem.conv.slope.item() == model.stem.conv.slope.item()
    assert copy.deepcopy(model).stem.conv.slope.item() == pytest.approx(0.3)


def test_a_slope_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"slope=1\.5 is outside \[0, 1\]"):
        pv.set_slope(nn.Identity(), 1.5)


def test_the_slope_is_the_lambda_of_the_papers_first_equation():
    pair = LinearPair(nn.Sequential(nn.Conv2d(2, 2, 1)), nn.Sequential(nn.Conv2d(2, 2, 1)))
    for module in (pair.first[0], pair.second[0]):
        nn.init.dirac_(module.weight)
        nn.init.zeros_(module.bias)
    x = torch.randn(1, 2, 4, 4)
    for slope in (0.0, 0.25, 1.0):
        pv.set_slope(pair, slope)
        assert_close(pair(x), (1 - slope) * x.relu() + slope * x)
