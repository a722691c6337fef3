"""Nothing of a deleted person is left, and everybody else stays as they were."""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from cfaan_jax.data.index import index_path, present_splits
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy import extract
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.privacy import deletion, forget
from cfaan_jax.report import page
from cfaan_jax.runtime import lock
from data_prep import writer
from data_prep.datasets import Dataset
from data_prep.redetect_link.packing import Packer
from data_prep.redetect_link.tracklet import Tracklet
from tests import tiny_records
from tests.data_prep.checks import check_refused

GONE = 7
# In shards of two: the second of the training split is theirs alone.
PEOPLE = [("train", 1), ("train", 2), ("train", GONE), ("train", GONE), ("query", GONE), ("query", 3), ("gallery", 3),
          ("gallery", GONE), ("gallery", 0), ("gallery", 4)]
NAMES = [f"{split}-of-person-{pid}-number-{row}" for row, (split, pid) in enumerate(PEOPLE)]
OTHERS = [row for row, (_, pid) in enumerate(PEOPLE) if pid != GONE]


def frames(row: int) -> list[bytes]:
    rng = np.random.default_rng(row)
    return [tiny_records.frame(rng, PEOPLE[row][1], (24, 12)) for _ in range(2 + row % 3)]


def dataset(people=PEOPLE) -> Dataset:
    return Dataset("toy", [Tracklet(NAMES[row], split, row, pid, 1 + row % 2, tuple(
        f"{NAMES[row]}/{k}.jpg" for k in range(len(frames(row)))), frames(row).__getitem__)
        for row, (split, pid) in enumerate(people)])


def packed(folder: Path, people=PEOPLE) -> Path:
    """Records with all that lies beside them."""
    settings = writer.save_or_check_settings(folder, dataset(people), {"dataset": "toy"})
    shards = writer.plan(dataset(people), folder, 2)
    writer.write(shards, lambda tracklets: (Packer(95)(each) for each in tracklets), lambda record: None)
    writer.finish(folder, dataset(people), folder.parent, shards, settings, {"aligned": False})
    (folder / "summary.json").write_text("{}")
    (folder / "preview").mkdir()
    for row, (split, _) in enumerate(people):
        (folder / "preview" / f"{split}-{NAMES[row]}.png").write_bytes(frames(row)[0])
    return folder


def searched() -> Search:
    rows = [row for row, (split, _) in enumerate(PEOPLE) if split != "train"]
    labels = dict(names=np.array(NAMES)[rows], track_ids=np.array(rows), camids=np.array([1 + row % 2 for row in rows]),
                  pids=np.array([PEOPLE[row][1] for row in rows]))
    features = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    return Search(features, 2, **labels, about=About("toy", "", False, "c2d", 0, "last", "all_sampled"))


def extracted() -> extract.Extracted:
    return extract.Extracted(NAMES, np.arange(20, dtype=np.float32).reshape(10, 2), {"distance": "cosine"})


@pytest.fixture(scope="module")
def whole_records(tmp_path_factory) -> Path:
    return packed(tmp_path_factory.mktemp("packed") / "records")


@pytest.fixture
def everything(tmp_path, whole_records) -> Path:
    """A folder with records, a workdir with a report, extracted features, a review page, and what a crash left."""
    shutil.copytree(whole_records, tmp_path / "records")
    workdir = tmp_path / "run"
    (workdir / "report").mkdir(parents=True)
    searched().save(workdir / "features-last-all_sampled.npz")
    (workdir / "results.json").write_text("[]")
    for folder in (workdir / "report" / "last-all_sampled", tmp_path / "review"):
        with page.pages(folder, {"index.html": "Evaluation"}, "about") as site:
            site.data("labels", NAMES)
            site.picture("1", np.zeros((8, 8, 3), np.uint8))
            site.file("index.html").write_text(NAMES[4])
    (workdir / "report" / "ranked-worst-last-all_sampled.png").write_bytes(frames(4)[0])
    extract.write(tmp_path / "features", extracted())
    (tmp_path / "records" / "toy-train.tfrecord-00001-of-00002.unfinished").write_bytes(frames(2)[0])
    (tmp_path / "review.unfinished").mkdir()
    (tmp_path / "review.unfinished" / "1.jpg").write_bytes(frames(2)[0])
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def traces(folder: Path) -> list[str]:
    """Files in whose bytes or names anything of the person is found; NumPy keeps names as UTF-32."""
    rows = [row for row in range(len(PEOPLE)) if row not in OTHERS]
    secrets = [frame for row in rows for frame in frames(row)]
    secrets += [NAMES[row].encode(code) for row in rows for code in ("utf-8", "utf-32-le")]
    return [str(path) for path, content in contents(folder).items()
            if any(secret in content for secret in secrets) or any(NAMES[row] in str(path) for row in rows)]


def check_records(folder: Path) -> None:
    """The others are there with their very bytes, and everything said of them is right."""
    found = {}
    for split, count in load_manifest(folder)["counts"].items():
        own = RecordSet.open(folder, split)
        assert index_path(folder, split).read_bytes() == rebuild_index(folder, split).read_bytes()
        assert count["tracklets"] == len(own) and count["frames"] == own.lengths.sum()
        found |= {own.names[i]: [own.frame(i, k) for k in range(own.lengths[i])] for i in range(len(own))}
    assert found == {NAMES[row]: frames(row) for row in OTHERS}


def test_without_yes_everything_is_listed_and_nothing_changed(everything, capsys):
    before = contents(everything)
    forget.main([f"--pid={GONE}", str(everything)])
    said = capsys.readouterr().out
    for what in ("records: 4 tracklets", "features: rows of 4", "last-all_sampled.npz: rows of 2", "ranked-worst",
                 "review", "contact sheets", ".unfinished", "--yes"):
        assert what in said
    assert contents(everything) == before


@pytest.mark.parametrize("paths", [["."], ["run", ".", "./records"]])  # they may repeat and hold each other
def test_nothing_of_the_person_is_left_and_the_others_stay_as_they_were(everything, capsys, paths):
    assert len(traces(everything)) >= 10
    forget.main(["--yes", f"--pid={GONE}", *(f"{everything}/{path}" for path in paths)])
    assert traces(everything) == []
    check_records(everything / "records")
    assert len(list((everything / "records/preview").iterdir())) == len(OTHERS)
    left, whole = Search.load(everything / "run/features-last-all_sampled.npz"), searched()
    np.testing.assert_array_equal(left.features, whole.features[whole.pids != GONE])
    assert left.names.tolist() == [NAMES[row] for row in OTHERS[2:]] and left.num_queries == 1
    rows = extract.read(everything / "features")
    assert rows.ids == [NAMES[row] for row in OTHERS]
    np.testing.assert_array_equal(rows.features[:, 0], [2 * row for row in OTHERS])
    assert (everything / "run/results.json").exists() and not list((everything / "run/report").rglob("*.*"))
    assert "have seen the person" in capsys.readouterr().out
    assert not list(everything.rglob("*.lock"))


def test_tensorflow_datasets_reads_what_is_left(everything):
    import tensorflow_datasets as tfds
    forget.main(["--yes", f"--pid={GONE}", str(everything)])
    described = tfds.builder_from_directory(everything / "records").info.splits
    assert {name: split.num_examples for name, split in described.items()} == {"train": 2, "query": 1, "gallery": 3}
    assert described["train"].shard_lengths == [2, 0]


def test_a_split_that_loses_all_its_tracklets_goes(tmp_path):
    folder = packed(tmp_path / "records", [("train", 1), ("query", GONE), ("gallery", GONE)])
    forget.main(["--yes", f"--pid={GONE}", str(folder)])
    assert present_splits(folder) == ["train"] == list(load_manifest(folder)["counts"])
    check_refused("no split 'query'", RecordSet.open, folder, "query")


def test_packing_the_same_data_set_again_does_not_bring_the_person_back(everything):
    forget.main(["--yes", f"--pid={GONE}", str(everything)])
    check_refused("left when a person was deleted there", writer.save_or_check_settings, everything / "records",
                  dataset(), {"dataset": "toy"})


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_stopped_anywhere_the_same_command_finishes(tmp_path, whole_records, monkeypatch):
    """Every change of a file is once the last one that happens."""
    arguments, step = ["--yes", f"--pid={GONE}"], 0

    def stopping(change):
        def changed(*given, **named):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(*given, **named)
        return changed

    while True:
        folder = shutil.copytree(whole_records, tmp_path / str(step) / "records").parent
        searched().save(folder / "features-last.npz")
        extract.write(folder / "features", extracted())
        left = step
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", lambda _: None)  # there is no power failure
            patched.setattr(os, "replace", stopping(os.replace))
            patched.setattr(Path, "unlink", stopping(Path.unlink))
            try:
                forget.main([*arguments, str(folder)])
                break
            except Killed:
                pass
        if not (folder / "records" / MANIFEST).exists():
            check_refused("manifest.json is missing", RecordSet.open, folder / "records", "train")
        if traces(folder) or (folder / "records" / deletion.PENDING).exists():
            forget.main([*arguments, str(folder)])
        assert traces(folder) == [], step
        check_records(folder / "records")
        [features] = folder.glob("features*/")  # features.older if the process ends between two renamings
        assert extract.read(features).ids == [NAMES[row] for row in OTHERS]
        step += 1
    assert step > 15


def test_a_deletion_that_was_begun_is_finished_by_one_of_somebody_else(everything, monkeypatch):
    folder = everything / "records"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(deletion, "_rewrite", Mock(side_effect=Killed))
        forget.main(["--yes", f"--pid={GONE}", str(folder)])
    forget.main(["--yes", "--pid=4", str(folder)])
    kept = [name for split in ("train", "query", "gallery") for name in RecordSet.open(folder, split).names]
    assert kept == [NAMES[row] for row in OTHERS if PEOPLE[row][1] != 4]


def test_tracklets_can_be_named_where_no_identity_is_known(everything):
    name = NAMES[8]  # a distractor
    forget.main(["--yes", f"--tracklet={name}", str(everything / "features"), str(everything / "records")])
    assert name not in extract.read(everything / "features").ids
    assert name not in RecordSet.open(everything / "records", "gallery").names


def test_a_person_goes_from_features_as_parquet_as_well(everything):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    extract.write(everything / "features", extracted(), "parquet")
    forget.main(["--tracklet", NAMES[0], "--yes", str(everything / "features")])
    assert [path.name for path in (everything / "features").iterdir()] == ["features.parquet"]
    assert NAMES[0] not in extract.read(everything / "features").ids


def test_who_is_in_no_test_split_is_in_no_report(everything):
    forget.main(["--yes", "--pid=1", str(everything)])
    assert (everything / "review/files.json").exists()
    assert NAMES[0] not in extract.read(everything / "features").ids


def test_a_list_of_pages_cannot_reach_other_files(tmp_path):
    (tmp_path / "review").mkdir()
    for name in ("precious", "review/mine", "review/own"):
        (tmp_path / name).touch()
    (tmp_path / "review/files.json").write_text(json.dumps({"first": "review.html", "files": ["../precious", "own"]}))
    forget.main(["--yes", "--pid=1", str(tmp_path / "review")])
    assert (tmp_path / "precious").exists() and [path.name for path in (tmp_path / "review").iterdir()] == ["mine"]


def test_a_folder_in_which_somebody_works_is_left_alone(everything):
    with lock.exclusive(everything / "run" / lock.TRAINING, "trains"):
        before = contents(everything)
        check_refused("run: process .* works here", forget.main, ["--yes", f"--pid={GONE}", str(everything)])
        assert contents(everything) == before


@pytest.mark.parametrize("arguments, message", [
    (["--pid=99", "."], "no tracklet of identity 99"), (["--pid=0", "."], "--pid=0: is not a person"),
    (["."], "--pid is missing"), (["--pid=1", "nowhere"], "nowhere: there is no such folder"),
    (["--pid=1", "empty"], "holds nothing that this project writes"), (["--pid=7", "begun"], "unfinished records")])
def test_what_cannot_be_is_said(everything, monkeypatch, arguments, message):
    monkeypatch.chdir(everything)
    (everything / "empty").mkdir()
    before = contents(everything)
    if "begun" in arguments:
        shutil.copytree(everything / "records", everything / "begun")
        (everything / "begun" / MANIFEST).unlink()
    check_refused(message, forget.main, ["--yes", *arguments])
    assert {path: content for path, content in contents(everything).items() if "begun" not in path.parts} == before


def test_two_data_sets_number_their_people_each_in_its_own_way(everything):
    other = shutil.copytree(everything / "records", everything / "other")
    (other / MANIFEST).write_text(json.dumps(load_manifest(other) | {"dataset": "another"}))
    check_refused("another, toy number", forget.main, ["--yes", f"--pid={GONE}", str(everything)])
