"""What timm's own scripts do, they do with our networks: train, keep checkpoints, validate, time, export.

The scripts are no part of timm's package. This one goes through the same functions of timm, in the same order, as
train.py, validate.py, benchmark.py and onnx_export.py.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = """
import argparse, ast, importlib, logging, time, warnings
from pathlib import Path
import timm, torch
from timm import utils
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.models import load_checkpoint, resume_checkpoint
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, CheckpointSaver, ModelEmaV3, NativeScaler, accuracy

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("--device-modules", nargs="+", default=[])
parser.add_argument("--model")
parser.add_argument("--model-kwargs", nargs="*", default={}, action=utils.ParseKwargs)


def loaders(args, model):
    config = resolve_data_config({"input_size": (3, 64, 64)}, model=model)
    for split in ("train", "validation"):
        data = create_dataset("", root=args.data, split=split)
        yield create_loader(
            data, input_size=config["input_size"], batch_size=4, is_training=split == "train", use_prefetcher=False,
            interpolation=config["interpolation"], mean=config["mean"], std=config["std"], num_workers=0,
            crop_pct=config["crop_pct"], device=torch.device("cpu"), persistent_workers=False)


def validate(model, loader):
    top1 = AverageMeter()
    model.eval()
    with torch.inference_mode():
        for images, labels in loader:
            top1.update(accuracy(model(images), labels, topk=(1,))[0].item(), len(labels))
    return {"top1": top1.avg}


def main():
    args = parser.parse_args()
    for module in args.device_modules:
        importlib.import_module(module)
    options = {key: args.model_kwargs[key] for key in args.model_kwargs}

    # train.py
    torch.manual_seed(0)
    model = timm.create_model(args.model, pretrained=False, num_classes=2, drop_path_rate=0.1, **options)
    model.set_grad_checkpointing(True)
    train, held = loaders(args, model)
    args.opt, args.lr, args.weight_decay, args.momentum = "adamw", 1e-3, 0.05, 0.9
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args), layer_decay=0.9)
    average = ModelEmaV3(model, decay=0.9)
    schedule, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=2, warmup_epochs=0, cooldown_epochs=0)
    saver = CheckpointSaver(model=model, optimizer=optimizer, args=args, model_ema=average, checkpoint_dir=".",
                            recovery_dir=".", decreasing=False, max_history=2)
    for epoch in range(epochs):
        model.train()
        for step, (images, labels) in enumerate(train):
            loss = LabelSmoothingCrossEntropy(0.1)(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            utils.dispatch_clip_grad(utils.model.unwrap_model(model).parameters(), 1.0)
            optimizer.step()
            average.update(model, step=step)
        metrics = validate(average.module, held)
        saver.save_checkpoint(epoch, metric=metrics["top1"])
        schedule.step(epoch + 1, metrics["top1"])
    resumed = timm.create_model(args.model, num_classes=2, **options)
    print("resumed at epoch", resume_checkpoint(resumed, "last.pth.tar", log_info=False))

    # validate.py
    best = timm.create_model(args.model, num_classes=2, **options)
    load_checkpoint(best, "model_best.pth.tar", use_ema=True)
    print("best of the epochs is validated again:", validate(best, held)["top1"] == saver.best_metric)

    # benchmark.py
    images = torch.randn(2, 3, 64, 64)
    start = time.perf_counter()
    with torch.inference_mode():
        best(images)
    print("images a second:", round(2 / (time.perf_counter() - start)) > 0)
    train_step = create_optimizer_v2(best.train(), "sgd", lr=1e-3)
    best(images).sum().backward()
    train_step.step()

    # onnx_export.py
    from timm.layers import set_exportable
    with set_exportable(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = timm.create_model(args.model, num_classes=2, exportable=True, **options).eval()
        load_checkpoint(exported, "last.pth.tar")
        torch.onnx.export(exported, (images,), "net.onnx", dynamo=True, verbose=False)
    import onnxruntime
    found = onnxruntime.InferenceSession("net.onnx").run(None, {"x": images.numpy()})[0]
    print("exported answers alike:", torch.allclose(torch.from_numpy(found), exported(images), rtol=1e-3, atol=1e-4))


if __name__ == "__main__":
    main()
"""
SAID = [
    "resumed at epoch 2",
    "best of the epochs is validated again: True",
    "images a second: True",
    "exported answers alike: True",
]
NETWORKS = {
    "vanillanet_6": ("width=0.02", "linear_pairs=False"),
    "patchconvnet_s20": ("embed_dim=16", "depth=2"),
    "resnet50_max": ("width=0.125", "depths=(1,1,1,1)"),
}
PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a script of timm's kind and images of two classes."""
    (tmp_path / "train.py").write_text(SCRIPT)
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 4)):
        for number in range(count):
            folder = tmp_path / "data" / split / ("dark", "light")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 100, (70, 80, 3)) + 150 * (number % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path


def run(place: Path, *words: str) -> list[str]:
    command = [sys.executable, *words]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [line for line in ended.stdout.splitlines() if line in SAID]


@pytest.mark.parametrize("name", NETWORKS)
def test_timms_scripts_train_validate_time_and_export_it(name, place):
    words = ("data", "--model", name, "--model-kwargs", *NETWORKS[name], "--device-modules", "plainvision.models")
    assert run(place, "train.py", *words) == SAID


def test_the_line_around_a_script_is_the_one_of_the_docs(place):
    (line,) = re.findall(r'^python -c "(import plainvision\.models.*?)"', PAGE, re.MULTILINE)
    wrapper = line.replace("validate.py", "train.py")
    assert wrapper != line
    words = ("data", "--model", "vanillanet_6", "--model-kwargs", *NETWORKS["vanillanet_6"])
    assert run(place, "-c", wrapper, *words) == SAID
