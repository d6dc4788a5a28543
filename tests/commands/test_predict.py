"""`plainvision predict`: the answers of `evaluate`, of photographs wherever they are, said in every way there is."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands.running import HEAVY, plainvision, rows, said
from PIL import Image

from plainvision.commands.options import answers as answers_of
from plainvision.data.copies import Copies, file_name, folder_names


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def packed(folder: Path) -> Path:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder.parent))
    return folder.with_suffix(".zip")


@pytest.fixture
def few(two_digits) -> Path:
    """A folder of four photographs, two of each of two digits: ``few/{3,7}/N.png``."""
    few = two_digits.parent / "few"
    for digit in "37":
        (few / digit).mkdir(parents=True)
        for file in sorted((two_digits / "test" / digit).iterdir())[:2]:
            (few / digit / file.name).write_bytes(file.read_bytes())
    return few


@pytest.fixture(scope="module")
def onnx(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "deployed"
    ended = plainvision("deploy", run.folder, "--to", "onnx", "--out", folder, "--data.workers", 0)
    assert ended.status == 0, ended.err
    return folder


@pytest.mark.parametrize("form", ["run", "file", "fused", "folder"])
def test_each_answer_is_that_of_evaluate(run, deployed, onnx, two_digits, tmp_path, form):
    network = {"run": run.folder, "file": deployed[0], "fused": f"{run.folder}:deployed", "folder": onnx}[form]
    place = ("--data.root", two_digits, "--data.validation-root", two_digits, "--data.validation-split", "test")
    ended = plainvision("evaluate", network, *place, "--csv", tmp_path / "evaluated.csv", "--data.workers", 0)
    assert ended.status == 0, ended.err
    scored = {Path(row["image"]).name: row for row in table(tmp_path / "evaluated.csv")}
    for source in (two_digits, packed(two_digits)):
        ended = plainvision("predict", network, source, "--csv", tmp_path / "predicted.csv", "--data.workers", 0)
        assert (ended.status, ended.err) == (0, "")
        found = table(tmp_path / "predicted.csv")
        assert len(found) == len(scored) > 50
        assert f"{len(found)} images, predictions in {tmp_path / 'predicted.csv'}" in ended.out
        for row in found:
            its = scored[Path(row["image"]).name]
            assert row["predicted"] == row["class_1"] == its["predicted"]
            # Both are rounded to six digits.
            assert float(row["confidence"]) == pytest.approx(float(its["confidence"]), abs=2.1e-6)


def test_a_table_says_the_likeliest_classes(run, few):
    ended = plainvision("predict", run.folder, few, "--top", 3)
    assert (ended.status, ended.err) == (0, "")
    found = rows(ended.out)
    images = sorted(map(str, few.rglob("*.png")))
    assert [name for name in found if name.endswith(".png")] == images
    predicted, confidence, *others = found[images[0]]
    assert predicted in "0123456789"
    assert 0.1 <= float(confidence) <= 1
    assert len(others) == 4  # two classes and their confidences
    assert "4 images\n" in ended.out
    assert [line.split()[:3] for line in ended.out.splitlines() if "predicted" in line] == [
        ["image", "predicted", "confidence"]
    ]


def test_a_long_table_is_printed_in_pages(run, few, monkeypatch):
    monkeypatch.setattr(answers_of, "_PAGE", 3)
    ended = plainvision("predict", run.folder, few, "--top", 1)
    assert ended.out.count("predicted") == 2
    assert len([name for name in rows(ended.out) if name.endswith(".png")]) == 4


def test_json_lines_go_to_a_file_or_alone_to_standard_output(run, few, tmp_path):
    ended = plainvision("predict", run.folder, few, "--jsonl", "-", "--top", 2)
    assert (ended.status, ended.err) == (0, "")
    found = objects(ended.out)
    assert [row["image"] for row in found] == sorted(map(str, few.rglob("*.png")))
    for row in found:
        assert list(row) == ["image", "predicted", "confidence", "classes", "confidences"]
        assert (row["predicted"], row["confidence"]) == (row["classes"][0], row["confidences"][0])
        assert len(row["classes"]) == len(row["confidences"]) == 2
    files = (tmp_path / "new" / "a.jsonl", tmp_path / "a.csv")
    both = plainvision("predict", run.folder, few, "--jsonl", files[0], "--csv", files[1], "--top", 2)
    assert both.out == f"4 images, predictions in {files[1]}, predictions in {files[0]}\n"
    assert files[0].read_text() == ended.out
    assert list(table(files[1])[0]) == [
        *("image", "predicted", "confidence", "class_1", "confidence_1", "class_2", "confidence_2")
    ]
    plainvision("predict", run.folder, few, "--csv", files[1], "--top", 1)
    assert list(table(files[1])[0]) == ["image", "predicted", "confidence"]


def test_a_list_of_paths_comes_from_standard_input(run, few, monkeypatch):
    lines = "\n".join([*map(str, few.rglob("*.png")), "", "nowhere.png"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    ended = plainvision("predict", run.folder, "-", "--jsonl", "-", "--batch-size", 2, "--data.workers", 2)
    assert ended.status == 0
    assert [row["image"] for row in objects(ended.out)] == lines.split("\n")[:-2]
    assert ended.err == "skipped nowhere.png (No such file or directory)\n1 image could not be read\n"


def test_unreadable_images_are_named_and_counted_and_the_rest_is_done(run, few, tmp_path):
    (few / "7" / "torn\x1b[31m.png").write_bytes(b"torn")
    (few / "scan.heic").write_bytes(b"heic")
    ended = plainvision("predict", run.folder, few, tmp_path / "nowhere", "--csv", tmp_path / "a.csv")
    assert ended.status == 0
    assert ended.err.splitlines() == [
        f"skipped {few}/7/torn\\x1b[31m.png (cannot identify image file)",
        f"skipped {few}/scan.heic (a kind of image that is not read)",
        f"skipped {tmp_path}/nowhere (No such file or directory)",
        "3 images could not be read",
    ]
    assert len(table(tmp_path / "a.csv")) == 4


def test_no_image_that_can_be_read_is_an_error_with_its_reason(run, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"torn")
    (tmp_path / "a.csv").write_text("before")
    ended = plainvision("predict", run.folder, tmp_path / "torn.png", tmp_path / "no", "--csv", tmp_path / "a.csv")
    first, second, message = ended.err.splitlines()
    assert first == f"skipped {tmp_path}/torn.png (cannot identify image file)"
    assert second == f"skipped {tmp_path}/no (No such file or directory)"
    assert message.startswith("plainvision: none of 2 images could be read; the first is ")
    assert message.endswith("(cannot identify image file). Correct its path, or give other images.")
    assert (ended.status, ended.out, (tmp_path / "a.csv").read_text()) == (2, "", "before")


def test_photographs_are_copied_into_folders_of_their_classes_and_none_is_overwritten(run, few, tmp_path):
    archive = packed(few)
    with zipfile.ZipFile(archive, "a") as more:
        more.write(next(few.rglob("*.png")), "../../../outside.png")
    copies = tmp_path / "sorted" / "new"
    words = ("predict", run.folder, few, archive, "--copy-to", copies, "--jsonl", "-")
    answers = objects(plainvision(*words).out)
    assert len(answers) == 9
    first = answers[0]
    before = copies / first["predicted"] / Path(first["image"]).name
    assert before.read_bytes() == Path(first["image"]).read_bytes()
    expected = {f"{row['predicted']}/{Path(row['image']).name}" for row in answers}
    assert {path.relative_to(copies).as_posix() for path in copies.rglob("*.png")} == expected  # same content, one copy
    assert "outside.png" in {Path(name).name for name in expected}
    assert not list(tmp_path.glob("outside.png"))

    before.write_bytes(b"mine")
    for _ in range(2):  # again, it finds its own copies
        plainvision(*words)
        beside = before.with_name(f"{before.stem}_2.png")
        assert before.read_bytes() == b"mine"
        assert beside.read_bytes() == Path(first["image"]).read_bytes()
        assert len(list(copies.rglob("*.png"))) == len(expected) + 1


def test_images_of_low_confidence_are_left_apart(run, few, tmp_path):
    answers = objects(plainvision("predict", run.folder, few, "--jsonl", "-").out)
    middle = float(np.median([row["confidence"] for row in answers]))
    words = ("predict", run.folder, few, "--threshold", middle, "--copy-to", tmp_path / "sorted")
    ended = plainvision(*words, "--csv", tmp_path / "a.csv")
    assert ended.out.startswith("4 images, 2 of them unsure, predictions in ")
    assert ended.out.endswith(f"copies in {tmp_path / 'sorted'}\n")
    for row, before in zip(table(tmp_path / "a.csv"), answers, strict=True):
        sure = before["confidence"] >= middle
        assert row["predicted"] == (before["predicted"] if sure else "unsure")
        assert row["class_1"] == before["predicted"]
        assert (tmp_path / "sorted" / row["predicted"] / Path(row["image"]).name).is_file()
    shown = rows(plainvision(*words).out)
    unsure = next(row["image"] for row in answers if row["confidence"] < middle)
    assert shown[unsure][0] == "unsure"
    assert len(shown[unsure]) == 2 + 10  # the likeliest class is told too


def test_a_class_called_unsure_and_a_threshold_do_not_go_together(tmp_path):
    from networks_for_tests import trained

    from plainvision.recipes import get_recipe
    from plainvision.training.weights_file import Origin, build_network, save_network

    recipe = get_recipe("vanillanet_digits")
    network = trained(build_network(recipe, 2, recipe.epochs))
    save_network(tmp_path / "w.safetensors", network.state_dict(), Origin(recipe, ("unsure", "../up"), recipe.epochs))
    Image.new("L", (8, 8), 100).save(tmp_path / "a.png")
    words = ("predict", tmp_path / "w.safetensors", tmp_path / "a.png")
    refused = plainvision(*words, "--threshold", 0.5)
    assert said(refused, "has a class called 'unsure'", "Leave --threshold out, and choose by the confidences")
    assert plainvision(*words, "--copy-to", tmp_path / "sorted" / "here").status == 0
    (copy,) = (tmp_path / "sorted").rglob("a.png")
    assert copy.parent in (tmp_path / "sorted" / "here" / "unsure", tmp_path / "sorted" / "here" / "_._up")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hat", "hat"),
        ("../../etc", "_._.._etc"),
        ("..", "_"),
        ("", "_"),
        ("a/b\\c:d", "a_b_c_d"),
        (".git", "_git"),
        ("St. Bernard", "St. Bernard"),
        ("two\nlines\0", "two_lines_"),
        ("caf\udce9.jpg", "caf_udce9.jpg"),
        ("x" * 999 + ".jpg", "x" * 200 + ".jpg"),
        ("é" * 999, "é" * 100),
    ],
)
def test_a_strangers_name_is_the_name_of_one_file(text, name):
    assert file_name(text) == name


def test_classes_whose_names_become_one_have_folders_of_their_own():
    assert folder_names(("a/b", "a_b", "A:B", "a_b_2", "Unsure"), taken=["unsure"]) == {
        **{"a/b": "a_b", "a_b": "a_b_2", "A:B": "A_B_3", "a_b_2": "a_b_2_2", "Unsure": "Unsure_2"}
    }


def test_copies_of_one_name_are_numbered_and_found_again(tmp_path):
    contents = [b"one", b"two", b"three", b"onE", b"two and more"]
    for _ in range(2):
        copies = Copies(tmp_path)
        made = [copies.add(io.BytesIO(content), "hat", "0.png") for content in contents]
        assert [path.name for path in made] == ["0.png", "0_2.png", "0_3.png", "0_4.png", "0_5.png"]
        assert [path.read_bytes() for path in made] == contents
    (tmp_path / "hat" / "1.png").symlink_to(tmp_path / "elsewhere.png")  # a link that leads nowhere
    assert copies.add(io.BytesIO(b"x"), "hat", "1.png").name == "1_2.png"
    assert not (tmp_path / "elsewhere.png").exists()


def test_a_copy_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "hat").write_text("a file")
    with pytest.raises(
        OSError, match=r"cannot copy 0\.png into .*hat: File exists\. Make room, or give another folder"
    ):
        Copies(tmp_path).add(io.BytesIO(b"x"), "hat", "0.png")


def test_what_cannot_be_is_refused_before_the_work(run, few, onnx, tmp_path):
    (tmp_path / "file").write_text("")
    words = ("predict", run.folder, few)
    assert said(plainvision("predict", run.folder), "give images behind the network", "predict runs/clothing shoe.jpg")
    assert said(plainvision(*words, "--threshold", 1.5), "--threshold 1.5 is no confidence. Give a number from 0 to 1")
    assert said(plainvision(*words, "--top", 0), "top=0 must be above zero")
    assert said(plainvision(*words, "--batch-size", 0), "batch_size=0 must be above zero")
    assert said(plainvision(*words, "--csv", few), "cannot write", "it is a folder. Give another file with --csv")
    assert said(plainvision(*words, "--jsonl", few), "it is a folder. Give another file with --jsonl")
    inside = plainvision(*words, "--copy-to", few / "3" / "copies")
    assert said(inside, f"lies in {few}, whose images are read", "Give a folder outside of it")
    assert not (few / "3" / "copies").exists()
    assert said(plainvision(*words, "--copy-to", tmp_path / "file"), "File exists. Give another folder with --copy-to")
    assert said(plainvision("predict", "vanillanet_5", few), "no weights for vanillanet_5", "with --checkpoint")
    assert said(plainvision("predict", "runs/none", few), "no weights at runs/none")
    size = plainvision("predict", onnx, few, "--data.image-size", 48)
    assert said(size, "images of 48 x 48 pixels do not fit: the file takes 32 x 32", "or export with any_size")


def test_a_network_by_name_without_names_of_classes_answers_by_numbers(few, tmp_path):
    import torch
    from safetensors.torch import save_file

    import plainvision as pv

    torch.manual_seed(0)
    save_file(pv.create_model("alexnet", width=1 / 16, num_classes=4).state_dict(), tmp_path / "w.safetensors")
    words = ("predict", "alexnet:width=0.0625,num_classes=4", few, "--checkpoint", tmp_path / "w.safetensors")
    ended = plainvision(*words, "--jsonl", "-")
    assert (ended.status, ended.err) == (0, "")
    for row in objects(ended.out):
        assert sorted(row["classes"]) == ["0", "1", "2", "3"]


def test_help_needs_nothing_heavy():
    command = (
        "import sys\nfrom plainvision.commands import main\ntry:\n    main(['predict', '--help'])\nexcept SystemExit:\n"
    )
    command += f"    pass\nprint([name for name in {HEAVY} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_progress_is_seen_on_a_terminal_alone(run, few):
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "plainvision", "predict", str(run.folder), str(few), "--jsonl", "-"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=inner, timeout=300, check=True)
    os.close(inner)
    assert b" images" in os.read(outer, 2**16)
    os.close(outer)
    assert len(objects(ended.stdout.decode())) == 4
