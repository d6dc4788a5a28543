"""Files are written whole or not at all, whatever their name leads to, and a folder can be kept to one process."""

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from plainvision.files import locked, remove_unfinished, write_csv, write_json, write_text, write_whole


def python(program: str, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=120
    )


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    write_json(tmp_path / "a.json", {"name": "Mütze"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Mütze"}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")

    def half(file: Path) -> None:
        file.write_text("ne")
        raise KeyError("lost")

    with pytest.raises(KeyError):
        write_whole(tmp_path / "a", half)
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_what_json_has_no_word_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert not (tmp_path / "a.json").exists()


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.json").write_text("old")
    (tmp_path / "near").symlink_to("far/a.json")
    (tmp_path / "nearer").symlink_to(tmp_path / "near")
    write_json(tmp_path / "nearer", [1])
    assert (tmp_path / "nearer").is_symlink()
    assert (tmp_path / "near").is_symlink()
    assert json.loads((tmp_path / "far" / "a.json").read_text()) == [1]
    (tmp_path / "new").symlink_to("far/b.json")  # to a file that is not there yet
    write_json(tmp_path / "new", [2])
    assert json.loads((tmp_path / "far" / "b.json").read_text()) == [2]
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match=r"cannot write .*circle: Too many levels of symbolic links"):
        write_json(tmp_path / "circle", [3])


def test_devices_stay_devices():
    write_json("/dev/null", [1])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match=r"cannot write /dev/full: No space left on device\. .*Make room"):
        write_json("/dev/full", [1])
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_gets_what_is_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_json(tmp_path / "pipe", [1])
    reader.join()
    assert json.loads(read[0]) == [1]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


PRINTING = """
import torch
from plainvision.files import write_json, write_whole
print("before")
write_json("/dev/stdout", [1])
print("after")
"""


def test_standard_output_is_written_in_its_order(tmp_path):
    text = "before\n[\n  1\n]\nafter\n"
    assert python(PRINTING).stdout == text
    with (tmp_path / "out").open("w") as file:
        file.write("first\n")
        file.flush()
        subprocess.run([sys.executable, "-c", PRINTING], stdout=file, check=True, timeout=120)
    assert (tmp_path / "out").read_text() == f"first\n{text}"


@pytest.mark.parametrize("place", ["nowhere/a.json", "file/a.json", "folder"])
def test_a_place_that_cannot_be_written_is_one_error_in_words(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=rf"cannot write .*{place}: .*still there, whole") as caught:
        write_json(tmp_path / place, [1])
    assert caught.value.__cause__ is not None


def save_tensors(path: Path, elements: int) -> None:
    write_whole(path, lambda file: torch.save({"weights": torch.ones(elements)}, file))


def test_a_full_disk_leaves_the_old_file_whatever_the_writer(tmp_path):
    save_tensors(tmp_path / "state.pt", 10)
    write_text(tmp_path / "table.csv", "old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*state\.pt: .*still there, whole"):
            save_tensors(tmp_path / "state.pt", 10_000)
        with pytest.raises(OSError, match=r"cannot write .*table\.csv: File too large.*still there, whole"):
            write_csv(tmp_path / "table.csv", ["number"], [[number] for number in range(9999)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    def slowly(file: Path) -> None:
        file.write_text("first")
        write_text(tmp_path / "a", "second")  # by another process, say
        assert file.read_text() == "first"

    write_whole(tmp_path / "a", slowly)
    assert (tmp_path / "a").read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]


HOLDING = """
import os, signal, sys
from pathlib import Path
from plainvision.files import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True)
    if sys.argv[2] == "child":  # a process that reads images, for instance
        heard, told = os.pipe()
        if os.fork() == 0:
            os.write(told, b"here")
            sys.stdin.read()
            os._exit(0)
        os.read(heard, 4)
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_a_folder_is_kept_to_one_process_and_free_when_that_is_killed(tmp_path):
    words = [sys.executable, "-c", HOLDING, str(tmp_path), "alone"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=r"is in use by another process\. Wait until that ends"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path), pytest.raises(ValueError, match="in use"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_children_of_a_killed_process_do_not_keep_its_folder(tmp_path):
    words = [sys.executable, "-c", HOLDING, str(tmp_path), "child"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        other.wait()
        with locked(tmp_path):
            pass
        other.stdin.close()


def test_a_folder_without_locks_is_used_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.warns(UserWarning, match=r"no locks: start nothing else in .* meanwhile"), locked(tmp_path):
        pass


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".abc.unfinished").mkdir()
    (tmp_path / ".abc.unfinished" / "state.pt").write_text("half")
    (tmp_path / ".hidden").write_text("mine")
    (tmp_path / "a.unfinished").write_text("mine too")
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.unfinished"]
