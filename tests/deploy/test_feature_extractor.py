"""The features that a program gets are those of an evaluation, whatever form the tracklets come in."""

import re

import cv2
import numpy as np
import pytest
import safetensors.numpy

from cfaan_jax import FeatureExtractor, models, weights
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import features
from tests import tiny_records
from tests.data_prep.checks import check_refused

SETTINGS = dict(clip_length=2, image_size=(64, 32))
NETWORK = dict(width=8, depths=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def model():
    return models.create("c2d", num_classes=3, **SETTINGS, **NETWORK)


@pytest.fixture(scope="module")
def extractor(model):
    return FeatureExtractor(model, batch_size=8, **SETTINGS)


@pytest.fixture(scope="module")
def gallery(records_directory):
    return RecordSet.open(records_directory, "gallery")


@pytest.fixture(scope="module")
def expected(model, gallery):
    """What an evaluation computes."""
    return features.extract(model, gallery, clips="all_sampled", batch_size=8, **SETTINGS)


def files(gallery, folder):
    """The frames of the records as image files."""
    paths = {}
    for i, name in enumerate(gallery.names):
        paths[name] = [folder / f"{name}-{k}.jpg" for k in range(gallery.lengths[i])]
        for k, path in enumerate(paths[name]):
            path.write_bytes(gallery.frame(i, k))
    return paths


def arrays(gallery, folder):
    return [np.stack([gallery.image(i, k) for k in range(gallery.lengths[i])]) for i in range(len(gallery))]


@pytest.mark.parametrize("form", [lambda gallery, folder: gallery, files, arrays], ids=["records", "files", "arrays"])
def test_every_form_of_tracklets_gives_the_numbers_of_an_evaluation(extractor, gallery, expected, tmp_path, form):
    found = extractor(form(gallery, tmp_path))
    assert found.ids == ([str(i) for i in range(len(gallery))] if form is arrays else gallery.names)
    np.testing.assert_array_equal(found.features, expected)


def test_whitened_features_are_those_of_the_clips_of_all_sets(extractor, model, records_directory):
    """A clip at a time, in plain loops; tracklets have clips of their own number."""
    parts = [RecordSet.open(records_directory, split) for split in ("query", "gallery")]
    means, within = [], 0
    for part in parts:
        for name in part.names:
            batches = features.iter_clip_features(model, part.only(np.array(part.names) == name), clips="all_sampled",
                                                  batch_size=8, **SETTINGS)
            clips = np.concatenate([batch.features[batch.tracklets >= 0] for batch in batches]).astype(np.float64)
            means.append(clips.mean(0))
            within += sum(np.outer(clip - means[-1], clip - means[-1]) for clip in clips) / len(clips)
    within /= len(means)
    within += 0.1 * np.trace(within) / len(within) * np.eye(len(within))
    expected = (means - np.mean(means, axis=0)) @ np.linalg.inv(within) @ (means - np.mean(means, axis=0)).T
    found = extractor.whitened(*parts)
    assert found.ids == [name for part in parts for name in part.names] and found.features.dtype == np.float32
    np.testing.assert_allclose(found.features @ found.features.T, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


def test_too_few_tracklets_are_not_whitened(extractor, gallery, tmp_path):
    [first, *_] = files(gallery, tmp_path).items()
    check_refused("1 tracklets are too few to whiten features with.*at least 10", extractor.whitened, dict([first]))
    check_refused("0 tracklets are too few", extractor.whitened)


@pytest.mark.parametrize("nothing", [None, 3])
def test_what_is_no_tracklets_is_named(nothing, extractor):
    for asked in (extractor, extractor.whitened):
        check_refused(f"^{type(nothing).__name__} in the place of tracklets: give a mapping", asked, nothing)


def test_a_torch_file_gives_the_features_of_its_network(model, gallery, expected, tmp_path):
    safetensors.numpy.save_file(weights.to_torch(model), tmp_path / "c2d.safetensors")
    for opened in (FeatureExtractor.from_torch, FeatureExtractor.open):
        other = opened(tmp_path / "c2d.safetensors", name="c2d", network=NETWORK, batch_size=8, **SETTINGS)
        np.testing.assert_array_equal(other(gallery).features, expected)
    with pytest.raises(InputError, match="options of the file.* it was opened as name='cfaan' with network="):
        FeatureExtractor.from_torch(tmp_path / "c2d.safetensors", network=NETWORK, **SETTINGS)


def test_what_lies_in_a_folder_decides_how_it_is_opened(tmp_path):
    check_refused("config.json is missing: .* is not the workdir of an experiment", FeatureExtractor.open, tmp_path)
    (tmp_path / "network.json").write_text("{}")
    check_refused("the exported network is damaged", FeatureExtractor.open, tmp_path)


def test_boxes_in_a_video_are_cut_and_clipped(extractor, tmp_path):
    path, rng = tmp_path / "street.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (80, 100))
    frames = rng.integers(0, 256, (4, 100, 80, 3), dtype=np.uint8)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    found = extractor.video(path, {"a": {1: (10, 90, 20, 60), 3: (-5, 60, 50, 99)}})
    alone = extractor([[frames[1, 10:90, 20:60], frames[3, :60, 50:]]])
    assert found.ids == ["a"]
    np.testing.assert_allclose(found.features, alone.features, atol=0.05 * np.abs(alone.features).max())
    for boxes in ({"a": {7: (0, 9, 0, 9)}}, {"a": {0: (200, 300, 0, 9)}}):
        check_refused(str(path), extractor.video, path, boxes)


def test_re_detect_and_link_gives_what_packed_records_give(model, gallery, tmp_path):
    from data_prep.redetect_link import RedetectLink, packing
    from data_prep.redetect_link.alignment import AlignmentSettings
    from data_prep.redetect_link.tracklet import Tracklet
    pack = packing.create("hog", "largest", AlignmentSettings(), 95)
    names = gallery.names[:2]
    records = [pack(Tracklet(name, "gallery", i, 1, 1, ("",) * int(gallery.lengths[i]),
                             lambda k, i=i: gallery.frame(i, k))) for i, name in enumerate(names)]
    packed = RecordSet.open(tiny_records.write(tmp_path / "packed", records), "gallery")
    paths = files(gallery, tmp_path)
    aligning = FeatureExtractor(model, batch_size=8, redetect_link=RedetectLink("hog", "largest"), **SETTINGS)
    found = aligning({name: paths[name] for name in names})
    np.testing.assert_array_equal(
        found.features, features.extract(model, packed, clips="all_sampled", batch_size=8, **SETTINGS))


@pytest.mark.parametrize("tracklets, words", [
    ({}, "no tracklets"), ({"a": []}, "tracklet a has no frames"),
    ({"a": ["nowhere.jpg"]}, "nowhere.jpg: tracklet a, frame 0 cannot be read"),
    ({"a": [b"no picture"]}, "tracklet a, frame 0 is not a readable image"),
    ({"a": np.zeros((2, 8, 8, 3))}, r"tracklet a, frame 0: float64 \[8, 8, 3\]")])
def test_what_is_no_tracklet_is_named(extractor, tracklets, words):
    check_refused(words, extractor, tracklets)


@pytest.mark.parametrize("names, line", [
    (dict(detector="hog", linker="ide:runs/ide"), "RedetectLink(detector='hog', linker='ide:runs/ide')"),
    (dict(detector="hog"), "RedetectLink(detector='hog', linker='largest')")])
def test_names_of_a_detector_and_a_linker_are_refused_with_the_line_to_type(model, names, line):
    with pytest.raises(InputError, match=re.escape(f"type redetect_link={line}")) as caught:
        FeatureExtractor(model, **names, **SETTINGS)
    assert "from data_prep.redetect_link import RedetectLink" in str(caught.value)


def test_the_module_of_before_warns_and_works():
    with pytest.deprecated_call(match="cfaan_jax.deploy.feature_extractor"):
        from cfaan_jax.features import FeatureExtractor as before
    assert before is FeatureExtractor


@pytest.mark.parametrize("option, said", [
    (dict(clips="some"), "clips='some', distance='cosine': clips is one of test"),
    (dict(distance="far"), "distance='far': clips.*distance is one of cosine, euclidean"),
    (dict(batch_size=0), "batch_size=0, workers=2, clip_length=2, .*: all must be at least 1"),
    (dict(redetect_link="hog"), "detector='hog', linker='largest': removed; type redetect_link=RedetectLink")])
def test_options_are_checked_when_it_is_made(option, said):
    check_refused(said, FeatureExtractor, None, clip_length=2, image_size=(64, 32), **option)
