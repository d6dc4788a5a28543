"""Names of strangers on the screen, in tables, figures and files: what a terminal or a format would obey is escaped."""

import contextlib
import csv
import io
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from safetensors.torch import save_file

from plainvision import commands, create_model
from plainvision.bench.record import as_table, write_record
from plainvision.commands import Table, show
from plainvision.figures.page import Page
from plainvision.files import write_csv, write_json
from plainvision.showing import shown, shown_lines

NAMES = ("[hat]", "[/]", "[red]x", ":smile:", "<script>alert(1)</script>", "$x$", "_led", "a\x1b[31mb", "two\nlines")
UNKNOWN = os.fsdecode(b"caf\xe9")  # a name that is no UTF-8


def printed(table: Table) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        show(table)
    return out.getvalue()


def run_verb(*words: object, **more: object) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, whose outputs are bytes."""
    command = [sys.executable, "-m", "plainvision", *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=300, check=False, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("two\nlines\r", r"two\nlines\r"),
        (UNKNOWN, r"caf\udce9"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("Müller 犬 👩\u200d🔬", "Müller 犬 👩\u200d🔬"),
        ("[hat]", "[hat]"),
    ],
)
def test_what_a_terminal_obeys_is_shown_as_an_escape(name, words):
    assert shown(name) == words


def test_lines_of_ours_stay_lines():
    assert shown_lines("a\n\x1bb") == "a\n\\x1bb"


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_names_as_they_are(name):
    assert shown(name) in printed(Table((name.replace("\n", " "), "n"), caption=name)).replace("\n", " ")
    table = Table(("class", "n"))
    table.add_row(name, "1")
    text = printed(table)
    assert shown(name) in text
    assert "\x1b" not in text


def test_a_table_of_names_that_are_no_utf8_is_printed_and_written(tmp_path):
    for name in ("cat", "dog"):
        folder = os.fsencode(tmp_path / "images" / "test" / name)
        os.makedirs(folder)
        for number in range(2):
            Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(
                os.path.join(folder, b"\xe9\x1b%d.png" % number)
            )
    (tmp_path / "images" / "test" / "cat" / "torn.png").write_bytes(b"no image")
    code = (
        "import plainvision as pv, torch\n"
        "from safetensors.torch import save_file\n"
        "save_file(pv.create_model('resnet20_cifar', num_classes=2).state_dict(), 'w.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    ended = run_verb(
        *("evaluate", "--model", "resnet20_cifar:num_classes=2", "--checkpoint", "w.safetensors"),
        *("--data.root", "images", "--data.validation-split", "test", "--data.workers", 0, "--csv", "answers.csv"),
        *("--data.image-size", 8),
        cwd=tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"\x1b" not in ended.stdout
    assert b"4 images of images" in ended.stdout
    assert b"skipped images/test/cat/torn.png" in ended.stdout
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    assert [Path(row["image"]).name for row in found] == ["\\udce9\x1b0.png", "\\udce9\x1b1.png"] * 2
    assert {row["found_in"] for row in found} == {str(tmp_path)}


def test_names_in_a_csv_lead_to_the_images_from_any_folder(tmp_path):
    from plainvision.training.predictions_file import where_names_begin
    from plainvision.training.recipe import Data

    (tmp_path / "a").mkdir()
    (tmp_path / "b.zip").touch()
    with contextlib.chdir(tmp_path):
        assert where_names_begin(Data(root="a")) == str(tmp_path)
        assert where_names_begin(Data(root="b.zip")) == str(tmp_path / "b.zip")
        assert where_names_begin(Data(root="b.zip", validation_root="a")) == str(tmp_path)
        assert where_names_begin(Data(root="digits")) == "digits"


def test_files_take_every_name(tmp_path):
    write_json(tmp_path / "a.json", {"name": UNKNOWN})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": UNKNOWN}
    write_record(tmp_path / "b.json", "names", {"name": UNKNOWN}, f"plainvision bench {UNKNOWN}")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["figures"] == {"name": UNKNOWN}
    write_csv(tmp_path / "c.csv", ["name", "n"], [["two\nlines", 1], [UNKNOWN, 2], ["=1+1", 3]])
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as lines:
        assert [row[0] for row in csv.reader(lines)] == ["name", "two\nlines", "caf\\udce9", "=1+1"]


def test_a_page_and_a_markdown_table_show_names_as_text(tmp_path):
    page = Page("<script>", "`a` & <b>")
    for name in (*NAMES, UNKNOWN):
        page.paragraph(name)
        page.table([{name: name}])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in text
    assert r"caf\udce9" in text
    lines = as_table([{"name": name, "n": 1} for name in (*NAMES, UNKNOWN)]).splitlines()
    assert len(lines) == 2 + len(NAMES) + 1
    assert "<script>" not in "".join(lines)
    "".join(lines).encode()


def test_messages_of_errors_hold_no_escapes(capsys, tmp_path):
    with pytest.raises(SystemExit):
        commands.main(["evaluate", str(tmp_path / "\x1b[31mred.safetensors")])
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert r"\x1b[31mred" in said


def test_errors_have_colours_only_where_somebody_sees_them(monkeypatch):
    """A terminal reads the output, a file the errors; or nobody wants colours."""
    for variables, both in (({}, False), ({"NO_COLOR": "1"}, True), ({}, True)):
        terminal, inside = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "plainvision", "models", "--nothing"],
            stdout=inside,
            stderr=inside if both else subprocess.PIPE,
            env=environment,
        )
        _, error = process.communicate(timeout=300)
        os.close(inside)
        text = os.read(terminal, 100_000) if both else error
        os.close(terminal)
        assert process.returncode == 2
        assert b"--nothing" in text
        assert (b"\x1b[" in text) == (both and not variables)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_of_any_letters_is_printed_to(encoding):
    ended = run_verb("models", "vanillanet", env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"vanillanet_5" in ended.stdout


# Figures


def svg_texts(figure, tmp_path) -> set[str]:
    import matplotlib

    from plainvision.figures.style import save

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        save(figure, tmp_path / "figure.svg")
    return {
        "".join(node.itertext()) for node in ElementTree.parse(tmp_path / "figure.svg").iter() if "text" in node.tag
    }


def test_figures_of_growth_name_every_network(tmp_path):
    from plainvision.figures.growth import growth_figure

    rows = [
        {"name": name, "image_size": (side, side), "batch_size": 1, "p50_ms": 1.0 * side, "peak_memory_mb": 1.0 * side}
        for name in NAMES
        for side in (32, 64)
    ]
    assert {shown(name) for name in NAMES} <= svg_texts(growth_figure(rows), tmp_path)


def test_figures_of_outcomes_name_everything(tmp_path):
    from plainvision.figures import outcomes as figures
    from plainvision.figures import preferences as figures_preferences
    from plainvision.layers.dynamic_conv import Option

    curves = {name: [50.0, 60.0] for name in NAMES}
    assert {shown(name) for name in NAMES} <= svg_texts(figures.greedy_curves(curves, 50.0), tmp_path)
    counts = {name: np.array([1, 2, 2]) for name in NAMES}
    texts = svg_texts(figures.unique_predictions(counts), tmp_path)
    assert {f"{shown(name)} (mean 1.7)" for name in NAMES} <= texts
    bounds = dict.fromkeys(NAMES, (10.0, 20.0, 30.0))
    assert {shown(name) for name in NAMES} <= svg_texts(figures.layer_choice(bounds, 20.0), tmp_path)
    points = [(name, 1e6 * (i + 1), 50.0 + i, "static") for i, name in enumerate(NAMES)]
    drawn = figures.efficiency([1e6], [50.0], points)
    svg_texts(drawn, tmp_path)  # is drawn; letters with a rim are no text there
    assert {shown(name) for name in NAMES} <= {text.get_text() for text in drawn.findobj(Text)}
    series = {name: {1.0: {site: {Option(stride=1): 1.0} for site in NAMES}} for name in ("$a$", "_b")}
    texts = svg_texts(figures_preferences.preference_by_scale(NAMES, series), tmp_path)
    assert {shown(name) for name in (*NAMES, "$a$", "_b")} <= texts
    two = [(Option(stride=1),) * len(NAMES), (Option(stride=2),) * len(NAMES)]
    texts = svg_texts(figures_preferences.preferred_permutations(NAMES, two, [0.5, 0.5], two[0]), tmp_path)
    assert {shown(name) for name in NAMES} <= texts


def test_figures_of_maps_name_everything(tmp_path):
    import torch

    from plainvision.explain.explanation import Explanation
    from plainvision.figures.maps import class_maps, compare

    one = Explanation(torch.rand(3, 8, 8), torch.rand(2, 4, 4), ("_a$x$", "<b>\x1b\n"), (0.5, 0.25), "gradcam")
    texts = svg_texts(class_maps([one], titles=["\x1b[31m.png"], label="_$y$"), tmp_path)
    assert {"_a$x$ (50.0%)", r"<b>\x1b\n (25.0%)", r"\x1b[31m.png", "Grad-CAM of _$y$"} <= texts
    texts = svg_texts(compare({"_$y$": [one], "[b]": [one]}, titles=[UNKNOWN]), tmp_path)
    assert {"_$y$", "[b]", r"caf\udce9"} <= texts


# Commands that are printed


def test_the_next_command_can_be_copied_from_the_screen(tmp_path, monkeypatch):
    from commands.running import plainvision

    monkeypatch.chdir(tmp_path)
    place = Path("my runs; rm -r x")
    for name, words in (("a", ("--stride", "B=1,2")), ("b", ("--size", "B=1,3"))):
        network = ("--model", "resnet20_cifar:num_classes=10,width=0.25", "--checkpoint", "w.safetensors")
        if not Path("w.safetensors").exists():
            save_file(create_model("resnet20_cifar", num_classes=10, width=0.25).state_dict(), "w.safetensors")
        data = ("--data.root", "digits", "--data.image-size", 8, "--data.validation-per-class", 1, "--data.workers", 0)
        ended = plainvision("dynamic", "evaluate", *network, *data, *words, "--no-controls", "--out", place / name)
        assert (ended.status, ended.err) == (0, "")
        assert shlex.split(ended.out.split("Next: ")[1]) == ["plainvision", "dynamic", "bounds", str(place / name)]
    ended = plainvision("dynamic", "greedy", place / "a", place / "b", "--combine", "a b.json", "--combine-limit", 1)
    assert (ended.status, ended.err) == (0, "")
    assert shlex.split(ended.out.split("Next: ")[1])[:5] == [
        "plainvision",
        "dynamic",
        "evaluate",
        "--space",
        "a b.json",
    ]
