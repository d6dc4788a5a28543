"""The folder of a run, or of a search, that can stop and resume: its settings, its metrics, its full state."""

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from plainvision.files import is_unfinished, locked, plain_object, read_object, write_json, write_text, write_whole

# Fields that folders of earlier versions lack, and what was done in their place.
_LATER = {"data.split_seed": 0, "data.sampling": "shuffled"}
_LATER_OF_TECHNIQUES = {"SpatialOps": {"drop_norm_act": False}}


class ResumableFolder:
    """The files of one piece of work; ``asked`` is everything that decides its result, as plain values.

    Raises:
        ValueError: the folder holds other work, this one without ``resume``, nothing to resume, or a damaged file.
    """

    file: ClassVar[str]  # holds what was asked for
    noun: ClassVar[str]  # what the work is called; below, how messages name this one, another one, and the remedy
    this: str
    other: ClassVar[str]  # `{}` is its name
    advice: ClassVar[str]
    free: ClassVar[tuple[str, ...]]  # how the fields begin that may change between two parts of the work

    def __init__(self, path: str | Path, asked: dict[str, Any], *, resume: bool) -> None:
        self.path = Path(path)
        self.state_file = self.path / "state.pt"
        self._asked, self._resume = asked, resume
        self._check()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, write what was asked for into it, and keep other processes out meanwhile.

        Raises:
            ValueError, OSError: another process is in it, or was meanwhile; or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cannot write the {self.noun}'s folder {self.path}: {error.strerror}. Give a folder that you may "
                "write, on a disk with space, with --out."
            ) from error
        with locked(self.path):
            self._check()
            write_json(self.path / self.file, self._asked)
            yield

    def log(self, line: dict[str, Any]) -> None:
        """Append one line of numbers to the metrics; one that is not finite is a `ValueError`."""
        self.append(self.path / "metrics.jsonl", (json.dumps(line, allow_nan=False) + "\n").encode())

    def append(self, file: Path, content: bytes) -> None:
        """Write behind what is in one of the folder's files; what cannot be written is an `OSError`."""
        try:
            if file.parent != self.path:
                file.parent.mkdir(exist_ok=True)
            with file.open("ab") as end:
                end.write(content)
        except OSError as error:
            raise OSError(
                f"cannot write {file}: {error.strerror}. What was saved before is kept. Make room, or give back what "
                "is gone, and go on with --resume."
            ) from error

    def rewind_metrics(self, step: int) -> None:
        """Drop the lines after ``step``, which will be computed again."""
        lines = (json.dumps(line) + "\n" for line in read_metrics(self.path) if line["step"] <= step)
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def save_state(self, state: dict[str, Any], images: str) -> None:
        """Write a state and the hash of the images; a kill while writing leaves the state before."""
        words = json.dumps({"asked": self._fixed(self._asked), "images": images}).encode()
        state = {**state, "words": torch.frombuffer(bytearray(words), dtype=torch.uint8)}
        write_whole(self.state_file, lambda file: torch.save(state, file))

    def load_state(self, images: str | None = None) -> dict[str, Any] | None:
        """Return what `save_state` wrote last, None when the work never got so far; the hash None is not compared.

        Raises:
            ValueError: the file is damaged, of other work, or the images have changed.
        """
        if not self.state_file.exists():
            return None
        try:
            with zipfile.ZipFile(self.state_file) as archive:
                damaged = archive.testzip()  # torch writes checksums, and does not look at them
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError(f"it holds a {type(state).__name__}")
            if type(state.get("step")) is not int or state["step"] <= 0:
                raise ValueError(f"step is {state.get('step')!r}")
            words = json.loads(bytes(state.pop("words").tolist()))
            asked, seen = dict(words["asked"]), words["images"]
        except Exception as error:  # a damaged file makes readers raise nearly anything
            raise ValueError(
                f"{self.state_file} is damaged, or no state of ours ({_short(error)}). Copy it again, or remove "
                "it: then --resume begins anew."
            ) from error
        changed = differences(_filled(asked), self._fixed(self._asked))
        if changed:
            raise ValueError(
                f"{self.state_file} belongs to another {self.noun}: it differs in {changed}. Copy the right one, or "
                "remove it: then --resume begins anew."
            )
        if images not in (None, seen):
            raise ValueError(
                f"the images are not those that the {self.noun} in {self.path} began with: names, classes or their "
                "number changed. Going on would show some twice and others never. Restore them, or start anew with "
                "another --out."
            )
        return state

    def kept(self, saved: int, step: int) -> str:
        """Return in words what is saved, step ``saved`` of ``step``, and how to go on."""
        what = "everything" if saved == step > 0 else f"step {saved}" if saved else "nothing"
        return f"{what} is saved in {self.path}. Run the same command with --resume to continue."

    @contextlib.contextmanager
    def putting_back(self) -> Iterator[None]:
        """Name the state's file in any error of loading it into networks and optimizers, as a `ValueError`."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.state_file} does not fit this {self.noun} ({_short(error)}). Copy the right one, or "
                "remove it: then --resume begins anew."
            ) from error

    def _check(self) -> None:
        known = self.path / self.file
        if known.exists():
            there = read_asked(known)
            changed = differences(self._fixed(there), self._fixed(self._asked))
            if changed:
                other = self.other.format(repr(there.get("name")))
                raise ValueError(
                    f"{self.path} holds {other}; it differs in {changed}. Give another folder with --out, or "
                    f"{self.advice}."
                )
            if not self._resume:
                raise ValueError(
                    f"{self.path} already holds {self.this}. Add --resume to continue it, or give another folder with "
                    "--out."
                )
        elif self._resume:
            raise ValueError(f"nothing to resume in {self.path}: it holds no {self.file}. Start without --resume.")
        elif self.path.is_dir() and not all(map(is_unfinished, self.path.iterdir())):
            raise ValueError(
                f"{self.path} is not empty and holds no {self.noun} of ours. Give an empty or a new folder."
            )

    def _fixed(self, plain: dict[str, Any]) -> dict[str, Any]:
        whole = _filled(dotted_fields(plain))
        return {name: value for name, value in whole.items() if not name.startswith(self.free)}


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Return dotted fields with those that folders of earlier versions lack."""
    later = {
        f"{name.removesuffix('.technique')}.{own}": value
        for name, kind in fields.items()
        if name.endswith(".technique")
        for own, value in _LATER_OF_TECHNIQUES.get(str(kind), {}).items()
    }
    return {**_LATER, **later, **fields}


def read_asked(file: Path) -> dict[str, Any]:
    """Return what was asked for, as a folder's ``file`` has it; a damaged one is a `ValueError`."""
    try:
        return read_object(file)
    except ValueError as error:
        raise ValueError(f"{error} Give another folder with --out until then.") from error


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of the metrics in ``folder``, without a last one that a kill cut off; others must be whole."""
    file = Path(folder) / "metrics.jsonl"
    texts = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else [""]
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = plain_object(text)
            if type(line.get("step")) is not int:
                raise ValueError(f"its step is {line.get('step')!r}")
            for name, value in line.items():
                if type(value) not in (int, float):
                    raise ValueError(f"{name} is {value!r}, and no number")
        except ValueError as error:
            if number < len(texts):
                raise ValueError(f"{file} is damaged in line {number} ({error}). Remove that line.") from error
            continue
        lines.append(line)
    return lines


def dotted_fields(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested fields under the dotted names that the command line has for them."""
    if isinstance(plain, list) and any(isinstance(item, dict) for item in plain):
        plain = {str(place): item for place, item in enumerate(plain)}
    if not isinstance(plain, dict):
        return {prefix: plain}
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= dotted_fields(value, f"{prefix}.{key}" if prefix else key)
    return flat


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Return the first three fields that differ, in words; empty when none does."""
    changed = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return ", ".join(f"{key} ({there.get(key)!r} there, {here.get(key)!r} given)" for key in changed[:3])


def _short(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."
