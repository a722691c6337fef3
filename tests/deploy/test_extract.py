"""Features as files, and a search among them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax import FeatureExtractor
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy import extract
from cfaan_jax.experiment.config import create_model
from cfaan_jax.experiment.recipes import recipe
from tests import tiny_records
from tests.data_prep.checks import check_refused

ABOUT = dict(network="c2d", weights="last", fingerprint="0123", clips="all_sampled", distance="cosine")
ONE = extract.Extracted(["a"], np.ones((1, 2), np.float32), ABOUT)


@pytest.fixture(scope="module")
def config():
    config = recipe("c2d")
    config.model.update(dict(width=8, depths=(1, 1, 1, 1)))
    config.data.update(dict(clip_length=2, image_size=(64, 32)))
    config.eval.batch = 8
    return config


@pytest.fixture(scope="module")
def model(config):
    return create_model(config, num_classes=3)


@pytest.mark.slow
def test_records_are_extracted_split_by_split(model, config, records_directory, tmp_path):
    found = extract.read(extract.extract(model, config, records_directory, tmp_path / "out", "last"))
    splits = [RecordSet.open(records_directory, split) for split in ("train", "query", "gallery")]
    assert found.ids == [name for split in splits for name in split.names]
    assert found.about == ABOUT | {"fingerprint": found.about["fingerprint"]} and len(found.about["fingerprint"]) == 16
    extractor = FeatureExtractor(model, clip_length=2, image_size=(64, 32), batch_size=8)
    np.testing.assert_array_equal(found.features, np.concatenate([extractor(split).features for split in splits]))


def test_folders_of_images_are_tracklets_and_find_themselves(model, config, tmp_path):
    rng = np.random.default_rng(0)
    for pid, (name, images) in enumerate({"anna": 3, "ben, the elder": 3, "no images": 0}.items()):
        (tmp_path / "people" / name).mkdir(parents=True)
        for k in range(images):
            (tmp_path / "people" / name / f"{k}.JPG").write_bytes(tiny_records.frame(rng, pid))
    found = extract.read(extract.extract(model, config, tmp_path / "people", tmp_path / "out", "last"))
    assert found.ids == ["anna", "ben, the elder"]
    rows = extract.search(found, found, count=1).rows
    assert [(row[0], row[2], row[3]) for row in rows] == [(name, name, "1.0000") for name in found.ids]


@pytest.mark.slow
def test_parquet_holds_ids_features_and_what_made_them(model, config, records_directory, tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet
    arrays = extract.read(extract.extract(model, config, records_directory, tmp_path / "npy", "last"))
    folder = extract.extract(model, config, records_directory, tmp_path / "out", "last", "parquet")
    assert [path.name for path in folder.iterdir()] == ["features.parquet"]
    table = parquet.read_table(folder / "features.parquet")
    assert table.column_names == ["id", "feature"] and table["id"].to_pylist() == arrays.ids
    np.testing.assert_array_equal(np.float32(table["feature"].to_pylist()), arrays.features)
    assert json.loads(table.schema.metadata[b"about"]) == arrays.about
    found = extract.read(folder)
    assert (found.ids, found.about) == (arrays.ids, arrays.about)
    np.testing.assert_array_equal(found.features, arrays.features)
    assert extract.search(found, arrays, count=3).rows == extract.search(arrays, arrays, count=3).rows
    extract.write(folder, arrays._replace(ids=[], features=arrays.features[:0]), "parquet")
    assert extract.read(folder).features.shape == (0, model.feature_size)


def test_other_and_damaged_parquet_is_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet
    for name, kind in (("list", arrow.list_(arrow.float32())), ("double", arrow.list_(arrow.float64(), 2))):
        folder = tmp_path / name
        folder.mkdir()
        parquet.write_table(arrow.table({"id": ["a"], "feature": arrow.array([[1.0, 2.0]], kind)},
                                        metadata={"about": json.dumps(ABOUT)}), folder / "features.parquet")
        check_refused("no readable features .features of type", extract.read, folder)
    extract.write(tmp_path / "cut", ONE, "parquet")
    path = tmp_path / "cut/features.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    check_refused("no readable features", extract.read, tmp_path / "cut")


def test_parquet_without_pyarrow_is_refused_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_refused("pip install pyarrow", extract.extract, None, None, tmp_path, tmp_path / "out", "last", "parquet")


def test_the_nearest_come_first():
    gallery = extract.Extracted(["far", "near", "same"], np.float32([[0, 2], [3, 1], [5, 0]]), ABOUT)
    query = extract.Extracted(["q"], np.float32([[1, 0]]), ABOUT)
    assert extract.search(query, gallery, count=2).rows == [["q", "1", "same", "1.0000"], ["q", "2", "near", "0.9487"]]
    euclidean = [each._replace(about=ABOUT | {"distance": "euclidean"}) for each in (query, gallery)]
    assert [row[2:] for row in extract.search(*euclidean, count=3).rows] == [
        ["far", "5.0000"], ["near", "5.0000"], ["same", "16.0000"]]


def test_features_of_two_networks_are_not_compared():
    for change in ({"network": "cfaan"}, {"fingerprint": "4567"}):
        check_refused("extract both with one network", extract.search, ONE, ONE._replace(about=ABOUT | change), count=1)


def test_what_holds_nothing_is_named(model, config, tmp_path):
    check_refused("none: no such folder", extract.extract, model, config, tmp_path / "none", tmp_path / "out", "last")
    check_refused("neither records nor folders of images", extract.extract, model, config, tmp_path, tmp_path / "out",
                  "last")
    check_refused("no readable features", extract.read, tmp_path)
    for name in ("a\rb", "a\udcff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
        check_refused("without control codes", extract.extract, model, config, tmp_path, tmp_path / "out", "last")
        shutil.rmtree(tmp_path / name)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_of_something_else_is_not_replaced(tmp_path, what):
    folder = tmp_path / "out"
    if what == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        for name in ("features.npy", "notes.txt"):
            (folder / name).touch()
    check_refused(f"--out={folder}: .*; name a new folder", extract.check_out, folder)
    check_refused("--out=.: name a new folder", extract.check_out, Path("."))


def test_what_else_lies_beside_features_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    extract.write(tmp_path / "out", ONE)
    assert (tmp_path / "out/notes.txt").read_text() == "mine" and extract.read(tmp_path / "out").ids == ["a"]
