"""The package as `import plainvision` shows it."""

import importlib.metadata
import subprocess
import sys

import pytest

import plainvision as pv


def python(*words: str) -> str:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_imports_nothing_heavy():
    heavy = ("torch", "timm", "torchvision", "numpy", "PIL", "rich")
    assert python("-c", f"import sys, plainvision; print([name for name in {heavy} if name in sys.modules])") == "[]"


# A process of its own for each, because what a name leads to may depend on what was used before it.
@pytest.mark.parametrize(
    "order",
    [
        "",
        "reversed",
    ],
)
def test_every_name_resolves_in_any_order(order):
    found = python(
        "-c",
        f"import plainvision as pv\nfor name in {order}(pv.__all__): getattr(pv, name)\n"
        "import plainvision.surgery.fusing, plainvision.surgery.pairs, plainvision.bench.timing\n"
        "import plainvision.explain.grad_cam\n"
        "rooms = {name: getattr(pv, name) for name in pv.__all__ if isinstance(getattr(pv, name), type(pv))}\n"
        "print(*rooms)\n"
        "print(*map(callable, (pv.surgery.fuse, pv.surgery.linear_pairs, pv.bench.measure, pv.explain.gradcam)))\n"
        "print(set(pv.__all__) == set(dir(pv)))",
    )
    assert found.splitlines() == [
        "bench deploy dynamic explain hub layers models recipes search study surgery tasks training",
        "True True True True",
        "True",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("list_models", "create_model", "card", "load_checkpoint", "set_slope", "fuse", "attention_maps", "predict"),
        *("surgery.linear_pairs", "surgery.series_activation", "surgery.spatial_op"),
        *("training.Recipe", "training.train", "training.evaluate"),
        "bench.measure",
        *("tasks.detector", "tasks.segmenter", "tasks.fit_anchors"),
        *("dynamic.DynamicNetwork", "dynamic.Space", "dynamic.evaluate", "dynamic.Outcomes", "dynamic.Site"),
        "explain.gradcam",
        *("deploy.export", "deploy.load", "deploy.tune", "deploy.Preprocessing", "load"),
        *("search.search_cells", "search.compare_with_random", "search.draw_cells", "search.load_genotype"),
        *("study.LayerStudy", "study.run_study", "study.draw_study"),
        *("search.LayerStudy", "search.run_study", "search.draw_study", "search.Space"),  # older names
    ],
)
def test_the_names_that_the_documentation_uses_can_be_called(name):
    found = pv
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(
        AttributeError,
        match=r"'plainvision' has no attribute 'fusee'; it offers .*create_model, deploy, dynamic, explain, fuse,",
    ):
        pv.fusee  # noqa: B018
    with pytest.raises(AttributeError, match=r"'plainvision\.training' has no attribute 'fit'"):
        pv.training.fit  # noqa: B018
    assert not hasattr(pv, "nothing")


def test_the_version_is_one():
    assert python("-m", "plainvision", "--version") == f"plainvision {pv.__version__}"
    assert importlib.metadata.version("plainvision") == pv.__version__
