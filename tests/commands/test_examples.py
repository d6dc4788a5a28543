"""The example of every help text works: each is run as it stands, on tiny data of the names in it, made shorter."""

import re
import shlex
import shutil
import zipfile
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from commands.running import plainvision
from hub_stand_in import hub  # noqa: F401  # a fixture
from networks_for_tests import trained
from PIL import Image
from safetensors.torch import save_file
from tasks.scenes_for_tests import coco_folder, label_folder, pack

import plainvision as pv
from plainvision import commands
from plainvision.commands import detect, dynamic, segment
from plainvision.recipes import get_recipe
from plainvision.training.weights_file import Origin, build_network, save_network

CLASSES = ("hat", "shoe")
SIDE = 32
# What makes an example short; the words behind an option stand for those of the example.
SHORTER = {
    "train": "--epochs 2 --warmup-epochs 0 --techniques.0.epochs 1 --batch-size 4 --model-options.width 0.0625 "
    f"--data.image-size {SIDE} --data.workers 0 --machine.threads 1",
    "evaluate": f"--data.image-size {SIDE} --data.workers 0",
    "predict": f"--data.image-size {SIDE}",
    "card": f"--data.image-size {SIDE} --data.workers 0",
    "push": f"--data.image-size {SIDE} --data.workers 0",
    "explain": f"--data.image-size {SIDE}",
    "probe": f"--data.image-size {SIDE} --data.workers 0 --cache features",
    "deploy": f"--data.image-size {SIDE} --data.workers 0 --allow-loss 100",
    "tune": f"--data.image-size {SIDE} --data.workers 0 --seconds 15 --threads 1",
    "bench": "--sizes 64 96 --runs 2",
    "study": "--epochs 1 --stages 3 --seeds 0 --data.image-size 32 --data.workers 0 --latency-runs 2",
    "sweep": "--epochs 1 --data.train-per-class 7 --data.validation-per-class 2 --grid lr=1e-2,2e-2 --seeds 1",
    "search": "--epochs 1 --batch-size 2 --channels 2 --depth 4 --nodes 2 --data.image-size 16 --data.workers 0 "
    "--training.epochs 1 --training.channels 2 --training.batch-size 2 --training.seeds 1",
    "dynamic evaluate": f"--data.image-size {SIDE} --data.workers 0 --no-controls",
    "dynamic greedy": "--combine-limit 4",
    "dynamic tables": f"--data.image-size {SIDE} --data.workers 0 --no-controls --stride B=1,2 --dilation B=1,2 "
    "--size B=1,3",
    **{
        f"{group} train": "--epochs 1 --warmup-epochs 0 --batch-size 2 --model vanillanet_5 --width 8 "
        f"--model-options width 0.015625 --data.image-size 64 --data.workers 0 --machine.threads 1 {more}"
        for group, more in (("detect", ""), ("segment", "--data.train-split training --zero-ignored"))
    },
    "detect evaluate": "--data.workers 0",
    "segment evaluate": "--data.workers 0",
    "dynamic finetune": f"--data.image-size {SIDE} --data.workers 0 --no-controls --epochs 1 --batch-size 2",
}
GROUPS = {"dynamic": dynamic, "detect": detect, "segment": segment}
# What a group's own example does.
FIRST = {"dynamic": "dynamic evaluate", "detect": "detect train", "segment": "segment train"}
SLOW = ("tune", "bench", "study", "quickstart")


def modules() -> dict[str, object]:
    """Return the module of each verb."""
    found = {verb: import_module(f"plainvision.commands.{verb}") for verb in commands.VERBS}
    for name, group in GROUPS.items():
        found |= {f"{name} {verb}": import_module(f"plainvision.commands.{name}.{verb}") for verb in group.VERBS}
    return found


def examples() -> dict[str, list[str]]:
    """Return the words behind ``plainvision`` in each verb's help."""
    found = {}
    for verb, module in modules().items():
        (example,) = re.findall(r"^Example: plainvision (.+)$", module.__doc__, re.MULTILINE)
        found[verb] = shlex.split(example)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the examples name: an archive, pictures, trained networks and evaluations."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "clothing.zip", "w") as archive:
        for split, each in (("train", 4), ("validation", 2), ("test", 2)):
            for number in range(each * len(CLASSES)):
                picture = BytesIO()
                Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(picture, "png")
                archive.writestr(f"{split}/{CLASSES[number % 2]}/{number}.png", picture.getvalue())
    for name in CLASSES:
        Image.fromarray(random.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    networks = {"resnet": ("resnet18_clothing", {}), "clothing": ("vanillanet_clothing", {"width": 1 / 16})}
    for name, (recipe_name, options) in networks.items():
        recipe = get_recipe(recipe_name)
        recipe.model_options.update(options)
        (folder / "runs" / name).mkdir(parents=True)
        network = trained(build_network(recipe, len(CLASSES), recipe.epochs))
        save_network(
            folder / "runs" / name / "best.safetensors", network.state_dict(), Origin(recipe, CLASSES, recipe.epochs)
        )
    save_file(pv.create_model("tf_efficientnet_lite0").state_dict(), folder / "lite0.safetensors")
    pack(coco_folder(folder / "trees"))
    label_folder(folder / "fields")
    for name in ("tree", "field"):
        shutil.copy(folder / "hat.jpg", folder / f"{name}.jpg")
    short = [*SHORTER["dynamic evaluate"].split(), "--data.root", "clothing.zip"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for out, *words in (
            ("stride", "--stride", "B=1,2"),
            ("stride_scale_2", "--stride", "B=1,2", "--scale", "2"),
            ("stride_scale_4", "--stride", "B=1,2", "--scale", "4"),
            ("size", "--size", "B=1,3"),
            ("stride_and_size", "--stride", "B=1,2", "--size", "B=1,3"),
        ):
            ended = plainvision("dynamic", "evaluate", "runs/resnet", *short, *words, "--out", f"runs/{out}")
            assert (ended.status, ended.err) == (0, "")
        for verb in ("detect train", "segment train"):
            ended = plainvision(*examples()[verb], *shlex.split(SHORTER[verb]))
            assert (ended.status, ended.err) == (0, "")
    return folder


def test_every_verb_has_one_example_that_is_of_it():
    found = examples()
    assert len(found) == len(commands.VERBS) + sum(len(group.VERBS) for group in GROUPS.values())
    assert all(" ".join(words).startswith(verb) for verb, words in found.items())


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=pytest.mark.slow) if verb in SLOW else verb for verb in modules()]
)
@pytest.mark.usefixtures("hub")
def test_an_example_works(place, monkeypatch, verb):
    monkeypatch.chdir(place)
    if verb == "pull":
        assert plainvision("push", "runs/clothing", "me/clothing").status == 0
    words = examples()[verb]
    out = words.index("--out") + 1 if "--out" in words else None
    if out is not None:  # what the fixture made stays
        words[out] = str(Path("made") / verb.replace(" ", "_") / Path(words[out]).name)
    of = FIRST.get(verb, verb)
    ended = plainvision(*words, *shlex.split(SHORTER.get(of, "")))
    assert (ended.status, ended.err) == (0, ""), ended.err
    assert out is None or (place / words[out]).exists()
    for option in ("--csv", "--figure", "--plot", "--combine"):
        assert option not in words or (place / words[words.index(option) + 1]).stat().st_size > 0
