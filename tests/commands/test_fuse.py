"""`plainvision fuse`: a smaller file with the same answers, or a refusal."""

import shutil

import torch
import torchvision
from commands.running import plainvision, row, rows, said
from networks_for_tests import trained
from safetensors.torch import save_file

import plainvision as pv
from plainvision.training.weights_file import load_network


def test_fuse_writes_a_smaller_network_with_the_same_answers(run, deployed, tmp_path):
    file, ended = deployed
    assert (ended.status, ended.err) == (0, "")
    report, place = ended.out.strip().splitlines()
    assert "27 layers with weights -> 9" in report
    assert report.endswith("same class for 100%")
    assert place == f"deployed form in {file}"
    fused, origin = load_network(file)
    network, _ = load_network(run.folder)
    assert origin.deployed
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(fused(images), network(images), rtol=1e-3, atol=1e-4)
    assert file.stat().st_size < (run.folder / "best.safetensors").stat().st_size


def test_a_deployed_file_can_be_evaluated(run, deployed):
    trained, fused = (plainvision("evaluate", source).out for source in (run.folder, deployed[0]))
    for name in ("top-1 %", "top-5 %", *"0123456789"):
        assert row(fused, name) == row(trained, name)


def test_fuse_writes_beside_the_weights_unless_told_otherwise(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    ended = plainvision("fuse", tmp_path / "run")
    assert f"deployed form in {tmp_path / 'run' / 'deployed.safetensors'}" in ended.out
    assert load_network(tmp_path / "run" / "deployed.safetensors")[1].deployed
    shutil.copy(run.folder / "best.safetensors", tmp_path / "alone.safetensors")
    assert plainvision("fuse", tmp_path / "alone.safetensors").status == 0
    assert (tmp_path / "deployed.safetensors").exists()


def test_a_half_trained_run_is_not_fused(run):
    why = "cannot fuse a LinearPair at slope=0.0", "Finish the `DeepTraining` schedule"
    for words in (("fuse", run.half), ("evaluate", run.half, "--fuse")):
        assert said(plainvision(*words), *why)
    assert not (run.half / "deployed.safetensors").exists()


def test_a_deployed_network_is_not_fused_again(deployed):
    ended = plainvision("fuse", deployed[0], "--out", deployed[0].with_name("again.safetensors"))
    assert said(ended, "nothing to fuse in VanillaNet", "It is in deployed form already")
    assert not deployed[0].with_name("again.safetensors").exists()


def test_a_network_by_name_is_fused_into_a_file_that_every_command_takes(tmp_path, two_digits):
    network = trained(pv.create_model("resnet20_cifar", num_classes=2, width=0.25))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    out = tmp_path / "fused.safetensors"
    name = "resnet20_cifar:num_classes=2,width=0.25"
    ended = plainvision("fuse", name, "--checkpoint", tmp_path / "w.safetensors", "--out", out, "--device", "cpu")
    assert (ended.status, ended.err) == (0, "")
    fused, origin = load_network(out)
    assert (origin.deployed, len(origin.classes), origin.recipe.model) == (True, 2, "resnet20_cifar")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fused(images), network.eval()(images), rtol=1e-3, atol=1e-4)
    data = ("--data.root", two_digits, "--data.validation-split", "test", "--data.workers", 0)
    ended = plainvision("evaluate", out, *data)
    assert (ended.status, ended.err) == (0, "")
    assert set(rows(ended.out)) >= {"3", "7"}  # the classes are called as the data call them
    assert said(plainvision("evaluate", out), "a network loaded by name has no data set.", "with --data.root")


def test_a_network_that_a_file_cannot_rebuild_is_refused(tmp_path):
    save_file(torchvision.models.resnet18(num_classes=2).state_dict(), tmp_path / "w.safetensors")
    words = ("fuse", "torchvision/resnet18:num_classes=2", "--checkpoint", tmp_path / "w.safetensors")
    assert said(plainvision(*words, "--out", tmp_path / "a"), "rebuild its network by a name of ours or timm's")
    assert said(plainvision("fuse", "resnet18"), "no weights for resnet18")
