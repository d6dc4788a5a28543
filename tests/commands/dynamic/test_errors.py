"""What `plainvision dynamic` says when something cannot work."""

import pytest
from commands.dynamic.running import failure


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate {run} --stride Q=1,2", "unknown site 'Q' in stride: the sites are A, B, C, D."),
        ("evaluate {run} --sites A=conv9", "site A is to be 'conv9', and ResNetCifar has no layer of that name."),
        ("evaluate {run} --sites A=conv1 conv2", "--sites A=conv1 conv2: give each site once with its layer"),
        ("evaluate {run} --stride A=1,x", "--stride: '1,x' are no numbers. Give them with commas"),
        ("evaluate {run} --stride A=1,inf", "--stride: '1,inf' has a value twice, or one that is no number."),
        ("evaluate {run} --stride A=1 2", "--stride A=1 2: give values without spaces for all sites"),
        ("evaluate {run} --size 1,1", "--size: '1,1' has a value twice"),
        ("evaluate {run} --stride 1,0", "stride=0 is no option: a stride is 1/2 or a whole number from 1"),
        ("evaluate {run} --attribute size --size 1", "--attribute size takes the values of the paper, and --size"),
        ("evaluate {run} --attribute size --space x.json", "--space lists the permutations, and other options would"),
        ("evaluate {run} --space {folder}/x.json", "no space at {folder}/x.json. Give a file that `plainvision"),
        (
            "evaluate {run} --space {strides}/scores.json",
            "{strides}/scores.json holds no permutations (its fields are claim, date, command,",
        ),
        ("evaluate {run} --stride A=1,2 --scale 0", "--scale 0 leaves nothing of images of 16 pixels"),
        ("evaluate {run} --stride A=1,2 --context 99", "context=99: images are resized to 16 pixels, so give 1 to 16."),
        ("evaluate {run} --batch-size 0", "--batch-size 0 leaves no images for a pass"),
        ("evaluate {run} --stride A=1,2 --device nowhere", "device='nowhere' is not on this machine"),
        (
            "evaluate {run} --figure {folder}/a.gif",
            "cannot write a figure to {folder}/a.gif: its suffix must be one of",
        ),
        ("evaluate {run} --data.mean 0.5", "data.mean has 1 values and data.std 3, for data.channels=3"),
        ("evaluate {run} --data.image-size 0", "data.image_size=0 must be at least 8"),
        ("evaluate {run} --stride A=1,2 --data.root nowhere", "there are no images at 'nowhere'"),
        ("evaluate {run} --checkpoint x.pth", "brings its own weights and classes, and --checkpoint would give others"),
        ("evaluate resnet18", "no weights for resnet18: what random weights could do means nothing."),
        ("evaluate resnet18 --pretrained --checkpoint x", "--pretrained and --checkpoint are two answers"),
        ("evaluate resnet18:num_classes=3 --pretrained", "--pretrained weights have classes of their own"),
        ("evaluate resnet20_cifar --pretrained", "cannot load published weights of resnet20_cifar: No"),
        ("evaluate resnt18 --checkpoint x.pth", "unknown model 'resnt18'. Did you mean resnet18"),
        ("evaluate torchvision/resnt18 --checkpoint x.pth", "Did you mean torchvision/resnet18"),
        ("evaluate {folder}/ran", "no weights at {folder}/ran. Nearby: run"),
        (
            "evaluate {vision}",
            "no sites are known for VisionTransformer. Name them with `sites`, for instance sites={{'A': "
            "'layer1.0.conv1'}}, or on the command line --sites A=layer1.0.conv1.",
        ),
        ("evaluate resnet20_cifar:num_classes=3 --checkpoint {weights}", "a network loaded by name has no data set."),
        ("bounds", "no outcomes. Give a folder that `plainvision dynamic evaluate` wrote into, for instance: plain"),
        ("bounds {folder}/stride", "no outcomes at {folder}/stride. Nearby: strides. Give a folder that"),
        ("bounds {folder}", "no outcomes at {folder}. There are some in dilations, strides. Give a folder that"),
        (
            "bounds {run}/best.safetensors",
            "best.safetensors holds no outcomes. Give a file that an evaluation, or `Outcomes.save`, wrote.",
        ),
        ("bounds {strides} {strides}/outcomes.safetensors", "has the same outcomes twice. Give each once."),
        ("bounds {strides} --figure a.gif", "cannot write a figure to a.gif"),
        (
            "bounds {strides} --json {strides}/outcomes.safetensors/x",
            "cannot write {strides}/outcomes.safetensors/x",
        ),
        ("greedy {strides} --most 0", "--most 0 leaves no permutation"),
        ("greedy {strides} --combine {folder}/c.json", "nothing to combine. Give the outcomes of another attribute"),
        ("finetune torchvision/resnet18 --checkpoint x", "torchvision/resnet18: a run has to rebuild its"),
        ("finetune {fused}", "which this command does not know how to rebuild. In Python, train by its own"),
        ("finetune {run} --epochs 0", "epochs=0 must be above zero"),
        ("finetune {run} --stride Q=1,2 --batch-size 4", "unknown site 'Q' in stride: the sites are A, B, C, D."),
        ("finetune {run} --resume", "nothing to resume in"),
    ],
)
def test_what_cannot_work_is_explained(place, more, tmp_path, words, message):
    known = {name: str(value) for name, value in vars(place).items()} | more | {"run": " ".join(map(str, place.words))}
    given = words.replace("{run}/", f"{place.run}/").format(**known).split()
    if given[0] in ("evaluate", "finetune"):
        given += ["--out", str(tmp_path / "out")]
    assert message.format(**known) in failure(*given)
    assert not list((tmp_path / "out").rglob("*.safetensors"))
