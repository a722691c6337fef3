"""Feature extraction with a small network, and what an evaluation leaves behind."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from cfaan_jax import metrics, models
from cfaan_jax.data import augment, clips, loader, reading
from cfaan_jax.data.records import RecordSet
from cfaan_jax.evaluate import evaluate, features
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.intervals import intervals
from cfaan_jax.metrics.search import Search
from cfaan_jax.runtime.sharding import data_mesh, replicated
from tests import tiny_records
from tests.data_prep.checks import check_refused
from tests.metrics.test_big_gallery import run_on_devices

SIZE = (32, 16)
T = 3


class Network(nnx.Module):
    """Mean colour inside the mask, normalised by running statistics: stands in for a VideoReID."""

    stride, any_length = 16, True

    def __init__(self):
        self.linear = nnx.Linear(3, 8, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(8, rngs=nnx.Rngs(0))
        self.norm.mean[...] = jax.numpy.linspace(-1, 1, 8)

    def clip_features(self, clips, rectangles):
        cells = clips.reshape(*clips.shape[:2], 2, 16, 1, 16, 3).mean(axis=(3, 5))[:, :, :, 0]
        rows = jax.numpy.arange(2)
        inside = (rows >= rectangles[..., :1]) & (rows < rectangles[..., 1:2])
        pooled = (cells * inside[..., None]).sum(axis=2) / inside.sum(axis=2, keepdims=True)
        return self.norm(self.linear(pooled.mean(axis=1)))

    def tracklet_features(self, means):
        return means


QUERY = dict(pids=[1, 2, 3, 4], camids=[1, 1, 2, 2], lengths=[5, 1, 9, 3], track_ids=[2, 5, 7, 9])
GALLERY = dict(pids=[1, 2, 3, 4, 0, -1, 1], camids=[2, 2, 1, 1, 1, 3, 1], lengths=[2, 7, 3, 4, 13, 6, 2],
               track_ids=[0, 1, 3, 4, 6, 8, 10])


def split_tracklets(rng, split, pids, camids, lengths, track_ids):
    """In every third frame the upper half is padding."""
    for i, (pid, camid, length, track_id) in enumerate(zip(pids, camids, lengths, track_ids, strict=True)):
        frames = [tiny_records.frame(rng, pid, SIZE) for _ in range(length)]
        masks = np.array([[16 * ((i + k) % 3 == 0), SIZE[0], 0, SIZE[1]] for k in range(length)])
        yield tiny_records.tracklet(f"{split}-{i}", split, track_id, pid, camid, frames, masks)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    rng = np.random.default_rng(0)
    tracklets = [*split_tracklets(rng, "query", **QUERY), *split_tracklets(rng, "gallery", **GALLERY)]
    return tiny_records.write(tmp_path_factory.mktemp("records"), tracklets, dataset="synthetic", note="drawn by code")


@pytest.fixture
def query(directory):
    return RecordSet.open(directory, "query")


@pytest.fixture
def gallery(directory):
    return RecordSet.open(directory, "gallery")


def extract(network, split, batch_size=4, mode="all_sampled"):
    return features.extract(network, split, clips=mode, clip_length=T, image_size=SIZE, batch_size=batch_size)


def prepared_clips(split, row, clip_length, mode, size) -> list[tuple[jax.Array, jax.Array]]:
    """What a network sees of a tracklet, clip by clip, each a batch of one."""
    read = [reading.read_clip(split, row, indices[indices >= 0], size)
            for indices in clips.test_clips(int(split.lengths[row]), clip_length, mode)]
    return [augment.prepare(frames[None], rectangles[None]) for frames, rectangles in read]


@pytest.mark.slow
@pytest.mark.parametrize("mode", clips.MODES)
def test_feature_is_the_mean_over_clips_computed_one_by_one(mode, gallery):
    network = Network()
    network.eval()
    extracted = extract(network, gallery, mode=mode)
    assert extracted.shape == (7, 8) and extracted.dtype == np.float32
    one_clip = jax.jit(network.clip_features)
    for i in range(len(gallery)):
        one_by_one = prepared_clips(gallery, i, T, mode, SIZE)
        alone, counts = [one_clip(*clip)[0] for clip in one_by_one], [clip[0].shape[1] for clip in one_by_one]
        np.testing.assert_allclose(extracted[i], np.average(alone, 0, counts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 16, 64])
def test_batch_size_and_padding_change_nothing(batch_size, gallery):
    found, expected = (extract(Network(), gallery, size) for size in (batch_size, 7))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_padding_never_reaches_a_tracklet(monkeypatch, gallery):
    network = Network()
    expected = extract(network, gallery, 16)
    clean = loader.ClipBatches.__getitem__

    def with_garbage(self, index):
        batch = clean(self, index)
        padding = batch["tracklet"] < 0
        batch["frames"][padding] = 255
        batch["rectangles"][padding] = [16, 32, 0, 16]
        with_garbage.rows += padding.sum()
        return batch

    with_garbage.rows = 0
    monkeypatch.setattr(loader.ClipBatches, "__getitem__", with_garbage)
    np.testing.assert_array_equal(extract(network, gallery, 16), expected)
    assert with_garbage.rows > 0


def test_the_model_is_evaluated_and_left_as_it_was(query):
    network = Network()
    expected = extract(network, query)
    network.train()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(network))]
    np.testing.assert_allclose(extract(network, query), expected, rtol=1e-5, atol=1e-5)
    for left, right in zip(before, jax.tree.leaves(nnx.state(network)), strict=True):
        np.testing.assert_array_equal(left, right)
    assert network.norm.use_running_average is False


def test_all_splits_and_all_weights_share_one_compilation(query, gallery):
    network = Network()
    extract(network, query, 8)
    graphdef, state = nnx.split(network)
    compiled = features.compiled_features(graphdef, jax.tree.structure(state), replicated(data_mesh()))
    assert (before := compiled._cache_size()) >= 1
    extract(network, gallery, 8)
    network.linear.kernel[...] *= 2
    extract(network, gallery, 8)
    assert compiled._cache_size() == before


def test_a_feature_that_is_not_finite_is_refused(query):
    network = Network()
    network.linear.bias[...] = np.nan
    check_refused("feature of tracklet query-0 is not finite", extract, network, query)


SHARDED = """
import sys
import numpy as np, jax
from tests.evaluate import test_evaluate as t
from cfaan_jax.errors import InputError
assert jax.device_count() == 4
gallery = t.RecordSet.open(sys.argv[2], "gallery")
np.save(sys.argv[1], t.extract(t.Network(), gallery, 8))
try:
    t.extract(t.Network(), gallery, 6)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_four_devices_give_the_features_of_one(tmp_path, directory, gallery):
    printed = run_on_devices(4, SHARDED, tmp_path / "features.npy", directory)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), extract(Network(), gallery, 8), rtol=1e-5, atol=1e-5)
    assert "config.eval.batch" in printed


@pytest.fixture
def config(directory):
    return ConfigDict({
        "seed": 5, "model": {"name": "c2d"}, "data": {"records": str(directory), "clip_length": T, "image_size": SIZE,
                                                      "workers": 2, "on_bad_record": "error"},
        "eval": {"clips": "all_sampled", "protocols": ("mars", "mars_revised"), "corrections": "", "max_rank": 50,
                 "distance": "cosine", "batch": 4, "rerank": False, "report_lists": 3, "raw_records": ""}})


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr(evaluate.evaluation, "write", lambda *_: None)


def test_search_joins_queries_and_gallery(config, gallery):
    search = evaluate.search({"last": Network()}, config, "all_sampled")["last"]
    assert search.num_queries == 4 and search.features.shape == (11, 8)
    assert search.pids.tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 0, -1, 1]
    assert search.names[:5].tolist() == ["query-0", "query-1", "query-2", "query-3", "gallery-0"]
    assert search.track_ids.tolist() == [2, 5, 7, 9, 0, 1, 3, 4, 6, 8, 10]
    np.testing.assert_array_equal(search.features[4:], extract(Network(), gallery))
    assert vars(search.about) == {"dataset": "synthetic", "note": "drawn by code", "aligned": False, "model": "c2d",
                                  "seed": 5, "weights": "last", "clips": "all_sampled", "distance": "cosine",
                                  "left_out": 0, "whitened": False}


def test_two_networks_see_every_clip_once(config, monkeypatch):
    other = Network()
    other.linear.kernel[...] = -other.linear.kernel[...]
    monkeypatch.setattr(loader, "read_clips", read := Mock(wraps=loader.read_clips))
    alone = [evaluate.search({"last": network}, config, "all_sampled")["last"] for network in (Network(), other)]
    both, read.call_count = read.call_count, 0
    together = evaluate.search({"last": Network(), "best": other}, config, "all_sampled")
    np.testing.assert_array_equal([each.features for each in together.values()], [each.features for each in alone])
    assert [each.about.weights for each in together.values()] == ["last", "best"]
    assert 0 < read.call_count == both / 2


def test_evaluation_leaves_results_features_and_pictures(config, tmp_path, capsys):
    rows = evaluate.evaluate({"last": Network()}, config, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == rows
    assert [row["protocol"] for row in rows] == ["mars", "mars_revised"]
    search = Search.load(tmp_path / "features-last-all_sampled.npz")
    score = search.score("mars")["mars"]
    assert rows[0] == {
        "model": "c2d", "network": "c2d", "aligned": False, "protocol": "mars", "distance": "cosine", "reranked": False,
        "mAP": score.mAP, "mINP": score.mINP, "mAP_interval": list(intervals(score, search.pids[:4])["mAP"]),
        "rank1_interval": list(intervals(score, search.pids[:4])["rank1"]),
        "rank1": score.cmc[0], "rank5": score.cmc[4], "rank10": score.cmc[9], "rank20": score.cmc[19],
        "gallery_size": 6, "num_valid": 4, "num_queries": 4, "left_out": 0, "seed": 5, "weights": "last",
        "clips": "all_sampled", "dataset": "synthetic", "corrections": None, "note": "drawn by code"}
    text = capsys.readouterr().out
    for part in ("mars_revised", "weights last", "clips all_sampled", "raw tracklets of synthetic", "drawn by code",
                 f"{100 * score.mAP:.1f}", "4 of 4", "gallery"):
        assert part in text
    assert "report: " in text and str(tmp_path / "report/last-all_sampled/index.html") in text
    pictures = [tmp_path / f"report/ranked-{kind}-last-all_sampled.png" for kind in ("typical", "worst")]
    assert sorted((tmp_path / "report").iterdir()) == [tmp_path / "report/last-all_sampled", *pictures]
    assert min(Image.open(picture).width for picture in pictures) > 200
    names = sorted(path.name for path in (tmp_path / "report/last-all_sampled").iterdir())
    assert names == ["cameras.csv", "cameras.svg", "cmc.svg", "files.json", "frames", "index.html", "precision.svg",
                     "queries.csv", "ranked.html", "ranked.js", "style.css"]
    with (tmp_path / "report/last-all_sampled/queries.csv").open() as file:
        queries = [row for row in csv.DictReader(file) if row["protocol"] == "mars"]
    assert [row["query"] for row in queries] == search.names[score.valid].tolist()
    assert [float(row["ap"]) for row in queries] == pytest.approx(score.ap, abs=1e-6)


def test_reranking_is_asked_for_and_has_rows_of_its_own(config, tmp_path, capsys, no_report):
    config.eval.rerank = True
    rows = evaluate.evaluate({"last": Network()}, config, tmp_path)
    assert [(row["protocol"], row["reranked"]) for row in rows] == [
        ("mars", False), ("mars_revised", False), ("mars", True), ("mars_revised", True)]
    search = Search.load(tmp_path / "features-last-all_sampled.npz")
    unit = search.features / np.linalg.norm(search.features, axis=1, keepdims=True)
    places = search.gallery(protocols.get("mars"))
    expected = metrics.score(metrics.rerank(unit[:4], unit[places]), search.pids[:4], search.pids[places],
                             search.camids[:4], search.camids[places])
    assert rows[2]["mAP"] == pytest.approx(expected.mAP)
    assert "mars_revised, re-ranked" in capsys.readouterr().out


def test_rows_are_merged_by_weights_protocol_and_clips(config, tmp_path, no_report):
    first = evaluate.evaluate({"last": Network()}, config, tmp_path)
    config.eval.protocols, config.eval.clips = ("mars",), "test"
    second = evaluate.evaluate({"last": Network()}, config, tmp_path)
    untrained = evaluate.evaluate({"untrained": Network()}, config, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == [*first, *second, *untrained]
    assert [(row["model"], row["network"], row["weights"]) for row in untrained] == [("untrained", "c2d", "untrained")]
    config.seed = 6
    again = evaluate.evaluate({"last": Network()}, config, tmp_path)
    assert again != second
    assert json.loads((tmp_path / "results.json").read_text()) == [*first, *again, *untrained]


@pytest.mark.parametrize("settings, message", [
    ({"protocols": ("mars", "mers")}, "unknown protocol 'mers'"),
    ({"raw_records": "others"}, "there is no query query-2; config.eval.raw_records must name the same data set"),
    ({"raw_records": "nothing"}, "holds no finished records"),
    ({"attention_block": 5}, "CF-AA block 5: this network has 3 of them")])
def test_wrong_settings_show_before_the_work(config, tmp_path, monkeypatch, settings, message):
    monkeypatch.setattr(evaluate, "extract", lambda *_, **__: pytest.fail("features were extracted"))
    monkeypatch.chdir(tmp_path)
    frames = [tiny_records.frame(np.random.default_rng(0), 1)]
    tiny_records.write(tmp_path / "others", [tiny_records.tracklet(f"query-{i}", "query", i, 1, 1, frames)
                                             for i in range(2)])
    config.model.name = "cfaan"
    config.eval.update(settings)
    check_refused(message, evaluate.evaluate, {"last": small("cfaan", depths=(1, 1, 2, 1))}, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_that_was_cut_off_counts_as_not_done(config, tmp_path, monkeypatch):
    """Training takes an evaluation with results for finished, and would never write the report."""
    monkeypatch.setattr(evaluate.evaluation, "write", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate({"last": Network()}, config, tmp_path)
    assert (tmp_path / "features-last-all_sampled.npz").exists() and not (tmp_path / "results.json").exists()


def small(name, clip_length=2, size=(32, 16), **options):
    return models.create(name, num_classes=8, clip_length=clip_length, image_size=size, width=8,
                         **{"depths": (1, 1, 1, 1)} | options)


def test_clips_that_the_network_does_not_take_show_before_the_work(config, query):
    config.eval.clips = "dense_cut"
    check_refused("clips=dense_cut gives shorter clips", evaluate.check_network, small("tclnet"), config)
    check_refused("clips=dense_cut gives shorter clips", extract, small("cfaan"), query, mode="dense_cut")


def test_damaged_tracklets_are_left_out_and_counted(config, tmp_path, capsys):
    expected = evaluate.search({"last": Network()}, config, "all_sampled")["last"]
    config.data.records = str(tiny_records.damage(shutil.copytree(config.data.records, tmp_path / "r"), "gallery", 2))
    check_refused("tracklet gallery-2 is damaged", evaluate.evaluate, {"last": Network()}, config, tmp_path)
    config.data.on_bad_record = "skip"
    assert {row["left_out"] for row in evaluate.evaluate({"last": Network()}, config, tmp_path)} == {1}
    assert "damaged test tracklets left out: 1" in capsys.readouterr().out
    search = Search.load(tmp_path / "features-last-all_sampled.npz")
    whole = expected.names != "gallery-2"
    assert search.names.tolist() == expected.names[whole].tolist() and search.about.left_out == 1
    np.testing.assert_allclose(search.features, expected.features[whole], rtol=1e-5, atol=1e-5)


def test_scoring_again_needs_no_network(config, tmp_path):
    corrections, features_file = tmp_path / "corrections.csv", tmp_path / "features.npz"
    corrections.write_text("track_id,pid,second_pid\n6,2,2\n")
    search = evaluate.search({"last": Network()}, config, "all_sampled")["last"]
    search.save(features_file)
    command = [sys.executable, "-m", "cfaan_jax.evaluate", str(features_file), f"--corrections={corrections}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    lines = done.stdout.split("\n")
    for name, score in search.score("all", corrections).items():
        assert any(f"| {name} " in line and f" {100 * score.mAP:.1f} " in line for line in lines), name
    assert str(corrections) in done.stdout
    check_refused("unknown protocol 'mers'", evaluate.main, [str(features_file), "--protocols=mers"])


@pytest.mark.slow
def test_cfaan_in_batches_and_clip_by_clip(records_directory):
    split = RecordSet.open(records_directory, "gallery")
    model = small("cfaan", size=(64, 32), scales=2, heads=2)
    model.train()
    extracted = features.extract(model, split, batch_size=5, clips="all_sampled", clip_length=2, image_size=(64, 32))
    model.eval()
    longest, one = int(np.argmax(split.lengths)), jax.jit(model.features)
    alone = [one(*clip)[0] for clip in prepared_clips(split, longest, 2, "all_sampled", (64, 32))]
    np.testing.assert_allclose(extracted[longest], np.mean(alone, axis=0), rtol=1e-4, atol=1e-4)
    assert len(alone) > 1 and np.ptp(extracted, axis=0).max() > 1e-2


@pytest.mark.slow
def test_a_tracklet_of_tclnet_has_two_halves_of_unit_length(records_directory):
    split = RecordSet.open(records_directory, "query")
    model = small("tclnet", size=(64, 32))
    extracted = features.extract(model, split, clips="dense", clip_length=2, image_size=(64, 32), batch_size=8)
    np.testing.assert_allclose(np.linalg.norm(extracted.reshape(len(split), 2, 256), axis=-1), 1, rtol=1e-5)
    model.eval()
    longest, one = int(np.argmax(split.lengths)), jax.jit(model.clip_features)
    alone = [one(*clip) for clip in prepared_clips(split, longest, 2, "dense", (64, 32))]
    assert len(alone) > 1
    means = jax.numpy.stack(alone).mean(0)
    np.testing.assert_allclose(extracted[longest], model.tracklet_features(means)[0], rtol=1e-3, atol=1e-4)
