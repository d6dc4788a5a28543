"""Files of an evaluation that are damaged, edited by hand or of something else: a message that names them, or no harm.

Each damage ends in a ValueError or OSError with the file's path, or in what the whole file says.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dynamic.evaluations_for_tests import Stopped, assert_same, batches, stop_after, tiny, write_images
from dynamic.outcomes_for_tests import made, same
from safetensors.numpy import load_file, save_file

from plainvision.bench import write_record
from plainvision.dynamic import Outcomes, Space, evaluate
from plainvision.dynamic.space_file import read_space, write_space
from plainvision.files import locked
from plainvision.genotype import CellSpace, load_genotype, random_genotype
from plainvision.layers.dynamic_conv import Option

OTHERS = (None, True, -1, 0.5, 1e30, "x", [], [[1]], {}, {"a": 1}, [{"a": [None]}])


def cuts(whole: bytes) -> Iterator[bytes]:
    """Yield what is left of a file that a full disk, a broken copy or an editor damaged."""
    for length in (0, 1, 7, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        yield whole[:length]
    yield bytes(len(whole))
    yield b"\xff\xfe" + whole
    yield whole.replace(b"{", b"[", 1)
    yield b"[" * 100_000


def edits(plain: Any) -> Iterator[Any]:
    """Yield JSON with each field removed or of other types, down to the third level, and with an unknown field."""
    if isinstance(plain, dict):
        yield {**plain, "unknown": 1}
    for key in list(plain) if isinstance(plain, dict) else range(min(2, len(plain))):
        changed = plain.copy()
        del changed[key]
        yield changed
        for other in OTHERS:
            changed = plain.copy()
            changed[key] = other
            yield changed
        if isinstance(plain[key], dict | list):
            for inner in edits(plain[key]):
                changed = plain.copy()
                changed[key] = inner
                yield changed


def survives(path: Path, content: bytes, read: Callable[[], Any], equal: Callable[[Any], None]) -> bool:
    """Write a damaged file; return whether it was refused, by its name, or check that it says what it said."""
    path.write_bytes(content)
    message = refusal(lambda: equal(read()))
    assert message is None or (str(path) in message and len(message) < 2000), message
    return message is not None


def refusal(act: Callable[[], object]) -> str | None:
    """Return what a user is told, None if all is well; another kind of error fails the test."""
    try:
        act()
    except (ValueError, OSError) as error:
        return str(error)
    return None


# Outcomes


def test_damaged_outcomes_are_refused_by_name(tmp_path):
    path, outcomes = tmp_path / "outcomes.safetensors", made()
    outcomes.save(path)
    whole = path.read_bytes()
    for content in cuts(whole):
        assert survives(path, content, lambda: Outcomes.load(path), lambda found: same(found, outcomes))
    for place in np.linspace(8, len(whole) - 1, 40).astype(int):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        survives(path, bytes(flipped), lambda: Outcomes.load(path), lambda found: same(found, outcomes))


def test_no_bit_of_the_arrays_changes_unseen(tmp_path):
    path = tmp_path / "outcomes.safetensors"
    made().save(path)
    whole = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(whole[:8], "little")
    for place in np.linspace(begin, len(whole) - 1, 20).astype(int):
        flipped = whole.copy()
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"outcomes\.safetensors is damaged: .* checksum"):
            Outcomes.load(path)


def test_edited_headers_of_outcomes_are_refused_by_name(tmp_path):
    """They carry no checksum: an editor could make a new one."""
    path = tmp_path / "outcomes.safetensors"
    outcomes = replace(made(), condition={"scale": 2.0}, left_out={"too large": 2}, skipped=("a.png: torn",))
    outcomes.save(path)
    arrays, size = load_file(path), int.from_bytes(path.read_bytes()[:8], "little")
    plain = json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["plainvision_outcomes"])

    def written(header: Any) -> bytes:
        save_file(arrays, path, metadata={"plainvision_outcomes": json.dumps(header)})
        return path.read_bytes()

    def of_that_type(found: Outcomes) -> None:
        np.testing.assert_array_equal(found.predictions, outcomes.predictions)
        assert all(isinstance(name, str) for name in (*found.names, *found.skipped, *found.sites, found.network))
        assert isinstance(found.scores(), list)

    assert not survives(path, written(plain), lambda: Outcomes.load(path), lambda found: same(found, outcomes))
    whole = [survives(path, written(h), lambda: Outcomes.load(path), of_that_type) for h in (*edits(plain), *OTHERS)]
    assert sum(whole) > 0.8 * len(whole)
    for name in arrays:
        lost = {key: value for key, value in arrays.items() if key != name}
        for changed in (lost, {**lost, name: np.zeros((), np.uint16)}, {**lost, name: np.zeros((2, 0), np.float64)}):
            save_file(changed, path, metadata={"plainvision_outcomes": json.dumps(plain)})
            refused = survives(path, path.read_bytes(), lambda: Outcomes.load(path), of_that_type)
            assert refused or name == "mean_predictions"


def test_a_pickled_array_is_never_opened(tmp_path):
    path = tmp_path / "outcomes.npz"
    np.savez(path, predictions=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"outcomes\.npz is not a whole safetensors file"):
        Outcomes.load(path)


# The folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a plan and one of two parts, its network and its images."""
    place = tmp_path_factory.mktemp("begun")
    data, network = write_images(place), tiny()
    options = {"batch_size": 3, "batches_per_part": 3, "controls": False}
    with pytest.raises(Stopped):
        evaluate(network, data, out=place / "out", on_progress=stop_after(12), **options)
    assert sorted(file.name for file in (place / "out").iterdir()) == ["evaluation.json", "part-00000.safetensors"]
    return place / "out", network, data, options, evaluate(network, data, **options)


@pytest.mark.parametrize("name", ["evaluation.json", "part-00000.safetensors"])
def test_a_damaged_file_of_an_evaluation_is_refused_by_name(begun, tmp_path, name):
    folder, network, data, options, whole = begun
    damaged = list(cuts((folder / name).read_bytes()))
    if name == "evaluation.json":
        plain = json.loads((folder / name).read_text())
        plain["permutations"] = plain["permutations"][:1]
        damaged += [json.dumps(one).encode() for one in list(edits(plain))[::7]]
    for number, content in enumerate(damaged):
        out = tmp_path / str(number)
        shutil.copytree(folder, out)
        (out / name).write_bytes(content)
        message = refusal(lambda out=out: assert_same(evaluate(network, data, out=out, **options), whole))
        assert message is None or str(out) in message


def test_a_part_of_another_evaluation_is_found_out(begun, tmp_path):
    folder, network, data, options, _ = begun
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    part = Outcomes.load(out / "part-00000.safetensors")
    part.select([1, 0, *range(2, len(part.permutations))]).save(out / "part-00000.safetensors")
    with pytest.raises(
        ValueError, match=r"part-00000\.safetensors is of another evaluation .* permutations are others"
    ):
        evaluate(network, data, out=out, **options)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", ["added", "renamed", "moved"])
def test_images_that_changed_since_are_refused(tmp_path, finished, change):
    data, network = write_images(tmp_path), tiny()
    options = {"batch_size": 3, "batches_per_part": 2, "controls": False, "out": tmp_path / "out"}
    if finished:
        evaluate(network, data, **options)
    else:
        with pytest.raises(Stopped):
            evaluate(network, data, on_progress=stop_after(12), **options)
    first, *_, last = sorted((Path(data.root) / "validation").iterdir())
    image = first / "0.png"
    if change == "added":
        shutil.copy(image, first / "9.png")
    else:
        image.rename(first / "a.png" if change == "renamed" else last / "9.png")
    with pytest.raises(ValueError, match=r"out holds an evaluation of other images: .* have changed since it began"):
        evaluate(network, data, **options)


def test_an_evaluation_of_an_older_version_is_still_read(begun, tmp_path):
    """It kept neither the hash of the images, nor fields of the data that are new since."""
    folder, network, data, options, whole = begun
    shutil.copytree(folder, tmp_path / "out")
    plain = json.loads((folder / "evaluation.json").read_text())
    del plain["images"], plain["data"]["max_pixels"]
    (tmp_path / "out" / "evaluation.json").write_text(json.dumps(plain))
    assert_same(evaluate(network, data, out=tmp_path / "out", **options), whole)


def test_one_folder_is_for_one_evaluation_at_a_time(tmp_path):
    network, out = tiny(), tmp_path / "out"
    out.mkdir()
    with locked(out), pytest.raises(ValueError, match=r"out is in use by another process\. Wait until that ends, or"):
        evaluate(network, batches(2), out=out)
    assert not list(out.iterdir())
    outcomes = evaluate(network, batches(2), out=out)
    assert_same(evaluate(network, batches(2), out=out), outcomes)


# Spaces, genotypes, records


def test_damaged_spaces_are_refused_by_name(tmp_path):
    path = tmp_path / "space.json"
    space = Space(chosen=((Option(stride=1, size=3), Option(stride=2)), (Option(stride=0.5), Option(dilation=2))))
    write_space(path, space, ["A", "B"])
    whole = path.read_bytes()

    def equal(found: tuple[Space, tuple[str, ...]]) -> None:
        assert found == (space, ("A", "B"))

    assert not survives(path, whole, lambda: read_space(path), equal)
    for content in (*cuts(whole), *(json.dumps(other).encode() for other in OTHERS)):
        survives(path, content, lambda: read_space(path), equal)
    for plain in edits(json.loads(whole)):
        survives(path, json.dumps(plain).encode(), lambda: read_space(path), lambda found: found[0].attributes)


def test_damaged_genotypes_are_refused_by_name(tmp_path):
    path, genotype = tmp_path / "genotype.json", random_genotype(CellSpace(depth=3, nodes=2), 0)
    genotype.save(path)
    whole = path.read_bytes()

    def equal(found: Any) -> None:
        assert found == genotype

    def but_origin(found: Any) -> None:
        assert (found.space.nodes, found.normal, found.reduction) == (2, genotype.normal, genotype.reduction) or (
            json.loads(path.read_text())["normal"] != json.loads(whole)["normal"]
            or json.loads(path.read_text())["reduction"] != json.loads(whole)["reduction"]
        )

    assert not survives(path, whole, lambda: load_genotype(path), equal)
    for content in (*cuts(whole), *(json.dumps(other).encode() for other in OTHERS)):
        survives(path, content, lambda: load_genotype(path), equal)
    for plain in edits(json.loads(whole)):
        survives(path, json.dumps(plain).encode(), lambda: load_genotype(path), but_origin)


def test_a_record_without_numbers_is_refused_and_the_old_one_stays(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, "claim", {"a": 1.0}, "command")
    for value in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises(ValueError, match=r"cannot write the figures of record\.json as JSON"):
            write_record(path, "claim", {"a": value}, "command")
        assert json.loads(path.read_text())["figures"] == {"a": 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
