"""Distances in strips: the scores of the whole matrix, on one device and on eight, from files that stay on the disk."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax import metrics
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import big_gallery, protocols, search
from cfaan_jax.metrics.big_gallery import CosineDistances
from tests.metrics.test_search import small_search

QUERIES, GALLERY = 23, 301  # neither is a multiple of a block, a strip or the devices


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(big_gallery, "_BLOCK", 64)


def labels(seed=0, people=9, cameras=4):
    """Identities (junk and distractors too), cameras and second identities of queries and gallery."""
    rng = np.random.default_rng(seed)
    q_pids, g_pids = rng.integers(1, people, QUERIES), rng.integers(-1, people, GALLERY)
    second = [np.where((pids > 0) & (rng.random(len(pids)) < 0.2), rng.integers(1, people, len(pids)), pids)
              for pids in (q_pids, g_pids)]
    return dict(q_pids=q_pids, g_pids=g_pids, q_camids=rng.integers(1, cameras, QUERIES),
                g_camids=rng.integers(1, cameras, GALLERY), q_second=second[0], g_second=second[1])


def exact_features(seed=0):
    """Small whole numbers of length 2 or 4: cosines are exact in any order of the sums, and few of them differ."""
    rng, features = np.random.default_rng(seed), np.zeros((QUERIES + GALLERY, 24), np.float32)
    for row in features:
        there = rng.choice(24, rng.choice([4, 16]), replace=False)
        row[there] = rng.choice([-1, 1], len(there))
    return features[:QUERIES], features[QUERIES:]


def matrix(queries, gallery):
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, gallery)]
    return -(unit[0] @ unit[1].T)


def in_strips(queries, gallery, rows=5):
    """Distances of which `rows` rows exist at a time."""
    return CosineDistances(queries, gallery, memory=4 * rows * len(gallery))


def test_exact_distances_with_many_ties_score_as_the_whole_matrix():
    given = exact_features()
    assert len(np.unique(matrix(*given))) < 40
    computed, expected = (metrics.score_all(distances, protocols=list(protocols.PROTOCOLS), **labels())
                          for distances in (in_strips(*given), matrix(*given)))
    assert list(computed) == list(expected) == list(protocols.PROTOCOLS)
    for name, score in expected.items():
        np.testing.assert_equal(vars(computed[name]), vars(score), name)


EIGHT = """
import sys
import jax, numpy as np
from cfaan_jax.metrics import big_gallery
from cfaan_jax.runtime import sharding
from tests.metrics import test_big_gallery as t
assert jax.device_count() == 8
big_gallery._BLOCK = 64
t.test_exact_distances_with_many_ties_score_as_the_whole_matrix()
queries, gallery = t.random_features()
np.save(sys.argv[1], np.concatenate([strip.copy() for strip in t.in_strips(queries, gallery).strips()]))
shards = {len(shard.data) for shard in jax.device_put(gallery[:64], sharding.batch_sharding(sharding.data_mesh(), 64))
          .addressable_shards}
assert shards == {8}
"""


def run_on_devices(count: int, script: str, *arguments) -> str:
    """What a script prints in a process that has several devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "XLA_FLAGS": flags}, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_eight_devices_score_as_one(tmp_path):
    run_on_devices(8, EIGHT, tmp_path / "distances.npy")
    np.testing.assert_allclose(np.load(tmp_path / "distances.npy"), matrix(*random_features()), rtol=0, atol=1e-6)


def random_features(seed=1, dimensions=40):
    rng = np.random.default_rng(seed)
    return 3 * rng.normal(size=(QUERIES, dimensions)), 3 * rng.normal(size=(GALLERY, dimensions))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, jnp.bfloat16, np.int8])
@pytest.mark.parametrize("mapped", [False, True])
def test_features_of_any_kind_in_memory_or_in_a_file(kind, mapped, tmp_path):
    given = [each.astype(kind) for each in random_features()]
    whole = matrix(*(each.astype(np.float64) for each in given))
    if mapped:
        for name, each in zip("qg", given, strict=True):
            np.save(tmp_path / f"{name}.npy", each)
        given = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "qg"]
    strips = [strip.copy() for strip in in_strips(*given).strips()]
    assert [strip.shape for strip in strips] == [(5, GALLERY)] * 4 + [(3, GALLERY)]
    computed = np.concatenate(strips)
    np.testing.assert_allclose(computed, whole, rtol=0, atol=1e-6)
    score = metrics.score(in_strips(*given), protocol="mars_revised", **labels())
    np.testing.assert_array_equal(score.ap, metrics.score(computed, protocol="mars_revised", **labels()).ap)
    assert (score.num_queries, score.gallery_size) == (QUERIES, GALLERY)


def test_equal_features_are_equally_far_wherever_they_stand():
    queries, gallery = random_features()
    copies = np.concatenate([gallery[:7]] * 43)
    computed = np.concatenate([strip.copy() for strip in in_strips(queries, copies).strips()])
    np.testing.assert_array_equal(computed, np.tile(computed[:, :7], 43))
    np.testing.assert_allclose(computed[:, :7], matrix(queries, gallery[:7]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("memory", [1, 4 * GALLERY, 1 << 30])
def test_memory_bounds_the_strips(memory):
    heights = [len(strip) for strip in CosineDistances(*random_features(), memory=memory).strips()]
    assert heights == ([1] * QUERIES if memory < 1 << 30 else [QUERIES])


def test_zero_features_are_far_from_everything_but_no_error():
    [strip] = CosineDistances(np.zeros((2, 3)), np.ones((4, 3))).strips()
    assert strip.shape == (2, 4) and not strip.any()


def mapped_bytes():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux says how much of mapped files is in memory")
    return int(status.read_text().split("RssFile:")[1].split()[0]) * 1024


def test_a_mapped_file_does_not_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(big_gallery, "_BLOCK", 1024)
    gallery = np.random.default_rng(0).standard_normal((1 << 15, 256), np.float32)
    np.save(tmp_path / "g.npy", gallery)
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    for _ in CosineDistances(gallery[:1], gallery[:1024]).strips():  # load what the work itself needs
        before = mapped_bytes()
    [strip] = CosineDistances(gallery[:2], mapped).strips()
    assert mapped_bytes() - before < gallery.nbytes / 4
    np.testing.assert_allclose(strip, matrix(gallery[:2], gallery), rtol=0, atol=1e-6)


def test_changes_of_a_mapped_file_that_are_only_in_memory_stay(tmp_path):
    _, gallery = random_features()
    np.save(tmp_path / "g.npy", gallery.astype(np.float32))
    changed = np.load(tmp_path / "g.npy", mmap_mode="c")
    changed[3] = 1
    for given in (changed, np.asarray(changed)):
        list(CosineDistances(gallery[:1], given).strips())
    assert (changed[3] == 1).all()


def broken(row, value):
    features = np.ones((70, 3), np.float32)
    features[row, 1] = value
    return features


@pytest.mark.parametrize("queries, gallery, message", [
    (np.ones((2, 3)), np.ones((4, 5)), "queries have 3 dimensions, the gallery 5"),
    (np.ones((2, 3)), np.ones((0, 3)), "gallery have shape .0, 3.*not empty"),
    (np.ones((0, 3)), np.ones((4, 3)), "queries have shape .0, 3.*not empty"),
    (np.ones((2, 0)), np.ones((4, 0)), "queries have shape .2, 0.*not empty"),
    (np.ones(3), np.ones((4, 3)), "queries have shape .3,"),
    (np.ones((2, 3)), np.ones((4, 3), complex), "gallery have shape .* dtype complex"),
    (np.ones((2, 3)), np.full((4, 3), "a"), "gallery have shape .* dtype <U1"),
    (np.ones((2, 3)), broken(66, np.nan), "the gallery feature of row 66 is not finite"),
    (np.ones((2, 3)), broken(5, -np.inf), "the gallery feature of row 5 is not finite"),
    (broken(69, np.nan), np.ones((4, 3)), "the query feature of row 69 is not finite")])
def test_bad_features_have_a_defined_error(queries, gallery, message):
    with pytest.raises(InputError, match=message):
        list(CosineDistances(queries, gallery, memory=4 * len(gallery)).strips())


def test_a_large_search_is_scored_in_strips(monkeypatch):
    small, protocol = small_search(), protocols.get("mars_matlab")
    scores, pairs = small.score("all"), small.camera_pairs(protocol)
    monkeypatch.setattr(search, "_LARGEST_MATRIX", 1)
    assert isinstance(small.distances(), CosineDistances)
    for name, score in small.score("all").items():
        np.testing.assert_array_equal(score.ap, scores[name].ap)
    np.testing.assert_array_equal(small.camera_pairs(protocol).mAP, pairs.mAP)


def test_scoring_a_matrix_does_not_load_jax():
    code = "import sys; from cfaan_jax import metrics; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("factor", [1e-25, 1e-13, 1e25])
def test_cosines_do_not_depend_on_the_scale(factor):
    rng = np.random.default_rng(0)
    queries, gallery = (rng.normal(size=(count, 8)).astype(np.float32) for count in (5, 20))
    plain = np.concatenate(list(CosineDistances(queries, gallery).strips()))
    scaled = CosineDistances(queries * np.float32(factor), gallery * np.float32(factor))
    np.testing.assert_allclose(np.concatenate(list(scaled.strips())), plain, atol=1e-6)
