"""The documentation keeps its word: tables are those of the records, links lead somewhere, examples run."""

import contextlib
import importlib
import importlib.util
import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
import timm
import torch
import tyro
from PIL import Image
from safetensors.torch import save_file

from plainvision.commands import VERBS, main
from plainvision.recipes import get_recipe
from plainvision.training.techniques import TECHNIQUES
from plainvision.training.weights_file import Origin, save_network

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}

# What makes a command of the README cheap enough for a test.
CHEAPER = {
    "train": "--epochs 1 --warmup-epochs 0 --techniques.0.epochs 0",
    "bench": "--runs 3",
    "tune": "--seconds 3 --threads 1 --precisions fp32 --data.workers 0",
    "probe": "--data.workers 0 --no-cache --data.image-size 64",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def lines(page: Path) -> list[list[str]]:
    """Return the words of each line of the page's shell blocks."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return [words for words in (shlex.split(line, comments=True) for line in text.splitlines()) if words]


def commands(page: Path) -> list[list[str]]:
    """Return the words behind `plainvision`, or behind a launcher's `-m plainvision`, of each such line."""
    found = []
    for words in lines(page):
        launched = ("-m", "plainvision") in itertools.pairwise(words)
        if launched or words[0] == "plainvision":
            found.append(words[words.index("plainvision") + 1 :])
    return found


def table(page: Path) -> list[list[str]]:
    """Return the cells of each row of the page's tables, less the headings."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return [row for row in rows if row[0] not in ("---", "figure or table")]


def commands_of_the_papers() -> list[list[str]]:
    """Return the words behind `plainvision` of each command in the tables of papers."""
    found = [command for row in table(PAGES["docs/papers.md"]) for command in re.findall("`([^`]+)`", row[1])]
    assert all(command.startswith("plainvision ") for command in found)
    return [shlex.split(command)[1:] for command in found]


def anchors(page: Path) -> set[str]:
    """Return the anchors that the page's headings get on GitHub."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def _techniques_put_back():
    before = dict(TECHNIQUES)
    yield
    TECHNIQUES.clear()
    TECHNIQUES.update(before)


def test_the_generated_parts_are_up_to_date(generate):
    stale = [path.name for path, text in generate.generated().items() if path.read_text() != text]
    assert not stale, "run `python docs/generate.py`"


def test_every_record_is_in_the_results():
    text = PAGES["docs/results.md"].read_text()
    assert [file.name for file in ROOT.glob("results/*.json") if f"../results/{file.name}" not in text] == []


def test_figures_by_name_become_rows_and_their_runs_a_count(generate):
    one = {"epochs": 10, "image_size": 64, "training_macs": 2.5e9, "test_top1_mean": 61.5, "test_top1_std": None}
    rows = {name: one | {"runs": [{"seed": 0}, {"seed": 1}]} for name in ("vanillanet_clothing", "resnet18_clothing")}
    host = json.loads((ROOT / "results" / "start_up.json").read_text())["host"] | {"gpu": "a GPU", "commit": None}
    record = {"claim": "one is better", "date": "2020-01-01", "command": "python x.py", "figures": rows, "host": host}
    text = generate.section("clothing", record)
    assert text.startswith("## Clothing\n\nOne is better.\n\n| name ")
    assert "| training MACs G | test top-1 % mean | test top-1 % std |" in text
    assert re.search(r"\| vanillanet_clothing \| +2\.5 \| +61\.5 \| +n/a \|", text)
    assert "All rows: image size 64, runs 2, epochs 10." in text
    assert "commit" not in text
    assert "; a GPU; " in text


def test_single_figures_become_a_table_beside_the_rows(generate):
    tables = generate.tables({"holds": None, "rows": [{"a": 1}], "p50_ms": 2.0, "image_size": [224, 224]})
    assert tables == [
        [{"a": 1}],
        [{"figure": "p50 ms", "value": 2.0}, {"figure": "image size", "value": "224 x 224"}],
    ]


def test_a_ratio_is_a_ratio_and_a_count_has_its_unit(generate):
    assert (generate.heading("macs_ratio"), generate.plain("macs_ratio", 4.32)) == ("MACs ratio", 4.32)
    assert (generate.heading("macs_g"), generate.plain("macs_g", 0.18)) == ("MACs G", 0.18)
    assert (generate.heading("deployed_macs"), generate.plain("deployed_macs", 2.5e9)) == ("deployed MACs G", 2.5)
    assert (generate.heading("parameters"), generate.plain("parameters", 31_000)) == ("params M", 0.031)
    text = PAGES["docs/results.md"].read_text()
    assert re.search(r"\| MACs ratio \|\n.*\n.*\| +4\.32 \|", text)
    assert "e-0" not in text


def test_a_record_names_the_columns_of_its_table(generate):
    row = {"name": "a", "speed_ratio": 2.0, "p90_ms": 3.0, "device": "cpu", "threads": 2}
    (shown,) = generate.tables({"rows": [row, row], "measured": [row]}, ["name", "speed_ratio"])
    assert generate.table(shown).startswith("| name | speed ratio |\n")
    assert "All rows: device cpu, threads 2." in generate.table(shown)
    with pytest.raises(ValueError, match=r"a table of 12 columns, from 'a0' on, is too wide.*\"columns\""):
        generate.table([{f"a{i}": i for i in range(12)}])


def test_evidence_says_what_is_published_what_is_measured_and_the_verdict(generate):
    rows = [
        {"row": "both", "published": 76.36, "top1_mean": 55.0, "top1_std": 0.5, "n": 3},
        {"row": "neither", "published": 59.58, "top1_mean": 50.0, "top1_std": None, "n": 1},
    ]
    claim = {"row": "both", "against": "neither", "published": 16.78, "measured": 5.0, "verdict": "not shown"}
    how = {"training_images": 10000, "image_size": 32, "epochs": 8, "batch_size": 128, "optimizer": "lamb", "lr": 0.01}
    settings = [how | {"options": "width 1"}]
    figures = {"rows": rows, "claims": [claim | {"low": None, "high": None}], "settings": settings}
    shown = generate.evidence({"figures": figures})
    assert shown.startswith("Trained on 10,000 images at 32 pixels, 8 epochs, batches of 128, lamb at 0.01; ")
    assert "76.36 - 59.58 = +16.78 | 55.00 ± 0.50 (n 3) | 50.00 (n 1)  | +5.00 " in shown
    assert shown.endswith("| not shown    |")
    figures["claims"] = [claim | {"low": -1.234, "high": 11.2}]
    figures["latency"] = [{"name": "resnet50", "speed_ratio": 1.0}]
    shown = generate.evidence({"figures": figures})
    assert "| +5.00 (-1.23 to +11.20) |" in shown
    assert shown.endswith("|\n| resnet50 |           1 |")


def test_no_page_holds_a_line_that_nobody_reads():
    for line in PAGES["docs/results.md"].read_text().splitlines():
        assert len(line) < 700 or not line.startswith("|")


def test_a_page_without_the_markers_is_refused(generate):
    with pytest.raises(ValueError, match=r"no place for the generated part 'models'.*<!-- models:begin -->"):
        generate.between("text", "models", "table")


def test_the_readme_is_short():
    assert len(PAGES["README.md"].read_text().splitlines()) < 120


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    page = PAGES[name]
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.usefixtures("_techniques_put_back")
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if blocks(page, "python")])
def test_the_python_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for block in blocks(PAGES[name], "python"):
        exec(compile(block, name, "exec"), namespace)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (20 * number, 0, 200 * (number % 2))).save(file)
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "tf_efficientnet_lite0.safetensors")
    ran = []
    for words in commands(PAGES["README.md"]):
        main([*words, *shlex.split(CHEAPER.get(words[0], ""))])
        ran.append(words[0])
    own_photographs = ["data", "probe", "deploy", "predict"]
    assert ran == [*own_photographs, "models", "train", "evaluate", "fuse", "bench", "tune"]
    said = capsys.readouterr().out
    assert "both forms name the same class for 360 of 360 images" in said
    assert "deployed form in runs/digits/deployed.safetensors" in said
    assert "timed in turns" in said


class _Parsed(Exception):
    """The words were understood, and the work would begin."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the runs, the images and the weights that commands of the docs begin with."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("digits", "folds/fold_1"):
        (folder / "runs" / name).mkdir(parents=True)
        recipe = get_recipe("vanillanet_digits").to_dict()
        (folder / "runs" / name / "recipe.json").write_text(json.dumps(recipe))
    for number in range(8):
        for place in ("PHOTOS", "clothing.zip"):  # a folder may be called so
            file = folder / place / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (20 * number, 0, 0)).save(file)
    sets = [f"{'ab'[number % 2]}/{number}.png,{'cat|dog' if number % 3 else ''},train" for number in range(8)]
    (folder / "labels.csv").write_text(
        "\n".join(["image,labels,split", *sets]).replace("7.png,cat|dog,train", "7.png,cat,validation")
    )
    (folder / "runs" / "s60").mkdir()
    given = ("tf_efficientnet_lite0.safetensors", "lite0.safetensors", "resnet50.pth", "s60.pth")
    for name in (*given, "runs/s60/last.safetensors"):
        (folder / name).touch()  # training would read it
    probe = Origin(get_recipe("vanillanet_digits"), ("a", "b"), 0)
    for name in ("my.safetensors", "clothing.safetensors"):
        save_network(folder / name, {"weight": torch.zeros(1)}, probe)  # its header is read
    return folder


@pytest.mark.parametrize(
    "words",
    [*(words for page in PAGES.values() for words in commands(page)), *commands_of_the_papers()],
    ids=lambda words: " ".join(words),
)
def test_every_command_is_understood(words, monkeypatch, runs):
    monkeypatch.chdir(runs)

    def begin(*_, **__):
        raise _Parsed

    verb, *rest = words
    if verb == "train" or words[1:2] == ["train"]:
        monkeypatch.setattr("plainvision.training.loop.train", begin)
        monkeypatch.setattr("plainvision.tasks.starting.with_fitted_anchors", lambda recipe: recipe)  # it reads boxes
        monkeypatch.setattr("plainvision.training.cross_validation.train", begin)
        monkeypatch.setattr("plainvision.training.learning_rates.range_test", begin)
        with pytest.raises(_Parsed):
            main(words)
    elif verb == "sweep":
        monkeypatch.setattr("plainvision.study.sweep.run_sweep", begin)
        with pytest.raises(_Parsed):
            main(words)
    else:
        module = verb
        if verb in ("dynamic", "detect", "segment"):
            module, *rest = [f"{verb}.{rest[0]}", *rest[1:]]
        tyro.cli(importlib.import_module(f"plainvision.commands.{module}").Arguments, args=rest)


def test_every_table_and_figure_of_the_papers_has_a_command():
    text = re.split("^## ", PAGES["docs/papers.md"].read_text(), flags=re.MULTILINE)[1:]
    named = {part.partition("\n")[0]: part for part in text}
    published = {
        "VanillaNet": [*(f"Table {n}" for n in range(1, 8)), "Figure 2"],
        "PatchConvNet": [
            *(f"Figure {n}" for n in range(1, 9)),
            *(f"Table {n}" for n in (1, 2, 3, 4, 5, "B.1", "B.2", "B.3", "C.1", "D.1", "D.2")),
        ],
        "Networks that are configured for each image": [
            *(f"Figure {n}" for n in range(1, 8)),
            *(f"Table {n}" for n in (1, 2, 3)),
        ],
    }
    for paper, names in published.items():
        assert [name for name in names if f"\n| {name}" not in named[paper]] == []
    rows = table(PAGES["docs/papers.md"])
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 4, row
        assert "`plainvision " in row[1]
        assert row[2]


def test_what_the_papers_tables_show_is_what_the_records_say():
    measured: set[tuple[str, str]] = set()
    for file in ROOT.glob("results/ablations_*.json"):
        figures = json.loads(file.read_text())["figures"].values()
        rows = [row for rows in figures if isinstance(rows, list) for row in rows if "against" in row]
        measured |= {(f"{row['measured']:+.1f}", row["verdict"]) for row in rows}
    verdict, seen = "", []
    for row in table(PAGES["docs/papers.md"]):
        for word, points in re.findall(r"(not shown|shown|refuted)|([+-]\d+\.\d)", row[3]):
            verdict = word or verdict
            if points:
                seen.append((points, verdict))
    assert len(seen) > 12
    assert [pair for pair in seen if pair not in measured] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_an_example(verb, capsys):
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr()
    assert f"Example: plainvision {verb}" in shown.out
    assert shown.err == ""


def test_targets_and_scripts_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES.values():
        text = page.read_text()
        named = {words[1] for words in lines(page) if words[0] == "make"} | set(re.findall(r"`make (\w+)`", text))
        assert named <= targets
        assert all((ROOT / script).is_file() for script in re.findall(r"python ((?:docs|benchmarks)/\w+\.py)", text))
