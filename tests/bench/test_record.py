"""Records and tables."""

import getpass
import json
import socket
import subprocess
from datetime import UTC, datetime

import pytest

import plainvision
from plainvision.bench import as_table, host_facts, record, write_record


def test_a_record_comes_back_as_written(tmp_path):
    figures = {"p50_ms": 1.25, "rows": [{"name": "a", "runs": 3}], "peak_memory_mb": None}
    before = datetime.now(UTC).date()
    write_record(tmp_path / "results" / "a.json", "a is fast", figures, "python benchmarks/a.py", columns=["name"])
    found = json.loads((tmp_path / "results" / "a.json").read_text())
    assert list(found) == ["claim", "date", "command", "columns", "figures", "host"]
    assert (found["claim"], found["columns"], found["figures"]) == ("a is fast", ["name"], figures)
    assert found["command"] == "python benchmarks/a.py"
    assert found["date"] in (before.isoformat(), datetime.now(UTC).date().isoformat())  # at midnight either
    assert found["host"] == host_facts()


def test_the_host_is_described_and_not_named(tmp_path):
    facts = host_facts()
    assert facts["cores"] >= 1
    assert facts["threads"] >= 1
    assert facts["plainvision"] == plainvision.__version__
    write_record(tmp_path / "a.json", "claim", {}, f"python {tmp_path}/a.py --out={tmp_path}/b ./c/d https://e.org/f")
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text)["command"] == "python a.py --out=b ./c/d https://e.org/f"
    assert str(tmp_path) not in text
    words = set(text.replace('"', " ").replace(",", " ").split())
    assert not words & {socket.gethostname(), getpass.getuser()}


def test_figures_that_json_cannot_hold_are_refused_and_leave_the_old_record(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, "claim", {"a": 1}, "command")
    before = path.read_text()
    for wrong in (float("nan"), object()):
        with pytest.raises(ValueError, match=r"cannot write the figures of a\.json .* Give finite numbers"):
            write_record(path, "claim", {"a": wrong}, "command")
    assert path.read_text() == before


def test_a_crash_while_writing_leaves_the_old_record_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_record(path, "claim", {"a": 1}, "command")

    def crash(self, target):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_record(path, "claim", {"a": 2}, "command")
    assert json.loads(path.read_text())["figures"] == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_commit_is_of_our_own_checkout_only(tmp_path, monkeypatch):
    # The package lies in a virtual environment, and that in someone's repository.
    package = tmp_path / "venv" / "plainvision"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(record.plainvision, "__file__", str(package / "__init__.py"))
    assert record._commit() is None


def test_rows_become_a_table():
    rows = [
        {"name": "a|b", "ms": 1.23456, "runs": 3, "holds": True},
        {"name": "c", "ms": 12345.6, "runs": None, "note": "slow"},
    ]
    assert as_table(rows).splitlines() == [
        r"| name |    ms | runs | holds | note |",
        r"| ---- | ----: | ---: | ----: | ---- |",
        r"| a\|b | 1.235 |    3 |   yes | n/a  |",
        r"| c    | 12346 |  n/a |   n/a | slow |",
    ]


def test_a_table_needs_a_row():
    with pytest.raises(ValueError, match="at least one row"):
        as_table([])
