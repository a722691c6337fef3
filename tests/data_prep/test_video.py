"""The video reader, on small videos written here: coloured blocks that a stand-in detector knows by their colour."""

import struct
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from data_prep.datasets import DATASETS, video
from data_prep.redetect_link.detectors import Detections
from tests.data_prep.checks import check_refused, decode

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230), "yellow": (230, 230, 20)}


class ColourDetector:
    """Detects one box around every bright saturated colour, but in `blind` frames; counts its frames."""

    def __init__(self, blind=()):
        self.frames, self.blind = 0, blind

    def detect(self, images):
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image):
        boxes = []
        for colour in () if self.frames in self.blind else COLOURS.values():
            rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 60).all(axis=2))
            if len(rows) > 50:
                boxes.append((rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
        self.frames += 1
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))


def write_video(path, walkers, frames=40, size=(120, 200), fps=10):
    """Writes blocks of 48 x 20 pixels: colour -> (row, first column, columns a frame, first and last frame)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size[::-1])
    assert writer.isOpened()
    for k in range(frames):
        frame = np.full((*size, 3), 110, np.uint8)
        for name, (row, column, speed, first, last) in walkers.items():
            if first <= k <= last:
                left = column + speed * (k - first)
                frame[row:row + 48, max(left, 0):max(left + 20, 0)] = COLOURS[name][::-1]
        writer.write(frame)
    writer.release()
    return path


WALKERS = {"red": (5, 0, 2, 0, 39), "green": (60, 150, -2, 4, 39), "blue": (10, 170, 0, 10, 33),
           "yellow": (65, 0, 1, 0, 19)}


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "yard.avi", WALKERS)


def open_video(path, **options):
    return DATASETS["video"](path, **{"detector": ColourDetector(), "minimum_length": 10, **options})


def colour_of(image):
    """Name of the colour in the middle of a crop."""
    middle = image[100:156, 50:78].reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())


def test_tracks_become_tracklets_of_two_pseudo_cameras(clip):
    dataset = open_video(clip)
    assert dataset.name == "video" and "pseudo-cameras" in dataset.note
    lengths = {}
    for tracklet in dataset.tracklets:
        images = [decode(tracklet.read(k)) for k in range(len(tracklet))]
        assert {image.shape for image in images} == {(256, 128, 3)}
        colours = {colour_of(image) for image in images}
        assert len(colours) == 1  # nobody else got into the track
        lengths.setdefault((tracklet.pid, *colours), {})[tracklet.camid] = len(tracklet)
    expected = {"red": 39, "green": 35, "blue": 23, "yellow": 19}  # all but the first frame of each
    assert {colour: sum(parts.values()) for (_, colour), parts in lengths.items()} == expected
    assert all(parts[2] == parts[1] + 1 for parts in lengths.values())


def test_half_of_the_tracks_train_and_the_others_are_searched(clip):
    tracklets = open_video(clip).tracklets
    train, queries, gallery = tracklets[:4], tracklets[4:6], tracklets[6:]
    assert [t.split for t in tracklets] == ["train"] * 4 + ["query"] * 2 + ["gallery"] * 2
    assert [t.track_id for t in tracklets] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [t.camid for t in queries + gallery] == [1, 1, 2, 2]
    assert len({t.name for t in tracklets}) == 8
    assert len({t.pid for t in train}) == 2 and not {t.pid for t in train} & {t.pid for t in queries}
    assert [t.pid for t in queries] == [t.pid for t in gallery]
    for query, match in zip(queries, gallery, strict=True):
        assert query.sources[-1] < match.sources[0]  # the first half comes first
        assert query.sources[0].startswith("yard.avi#")


def test_no_track_is_for_training_if_none_is_wanted(clip):
    assert [t.split for t in open_video(clip, training_share=0).tracklets] == ["query"] * 4 + ["gallery"] * 4
    check_refused("--training_share=1: must be at least 0 and below 1", open_video, clip, training_share=1)


def test_several_files_are_cameras_and_every_track_a_person_of_its_own(tmp_path):
    files = [write_video(tmp_path / name, {colour: WALKERS[colour] for colour in colours})
             for name, colours in (("a.avi", ("red", "green")), ("b.avi", ("green",)), ("c.avi", ("blue",)))]
    dataset = open_video(":".join(map(str, files)))
    assert "nobody knows who is who" in dataset.note
    assert [(t.name, t.split, t.track_id, t.pid, t.camid) for t in dataset.tracklets] == [
        ("V01T0001", "query", 0, 1, 1), ("V01T0002", "query", 1, 2, 1), ("V02T0001", "gallery", 2, 3, 2),
        ("V03T0001", "gallery", 3, 4, 3)]
    assert [len(t) for t in dataset.tracklets] == [39, 35, 35, 23]
    assert colour_of(decode(dataset.tracklets[3].read(0))) == "blue"
    gone = f"{files[0]}:{tmp_path / 'gone.avi'}"
    check_refused(r"no video '.*gone\.avi'; join the names of video files by ':'", open_video, gone)
    check_refused(r"b\.avi: no track of at least 37 frames", open_video, f"{files[0]}:{files[1]}", minimum_length=37)


def test_same_seed_same_tracklets(clip):
    def facts(seed):
        return [(t.name, t.split, t.pid, t.sources, tuple(map(t.read, range(len(t)))))
                for t in open_video(clip, seed=seed).tracklets]

    first = facts(0)
    assert facts(0) == first
    assert any(facts(seed) != first for seed in range(1, 6))


def test_short_tracks_and_small_persons_are_dropped(clip):
    assert len(open_video(clip, minimum_length=20).tracklets) == 6  # yellow has 19 frames
    check_refused(r"yard\.avi: 0 tracks", open_video, clip, minimum_height=60)


def test_stride_skips_frames(clip):
    detector = ColourDetector()
    dataset = open_video(clip, detector=detector, stride=2, minimum_length=5)
    assert detector.frames == 20
    assert {int(source.partition("#")[2]) for t in dataset.tracklets for source in t.sources} == set(range(2, 40, 2))


def test_person_hidden_for_a_moment_keeps_the_track(tmp_path):
    path = write_video(tmp_path / "yard.avi", {"red": WALKERS["red"], "green": WALKERS["green"]})
    dataset = open_video(path, detector=ColourDetector(blind=(15, 16)))
    assert {t.pid for t in dataset.tracklets} == {1, 2}
    assert sum(len(t) for t in dataset.tracklets) == 39 + 35 - 4


def test_crops_show_the_person_upright_in_the_middle_with_a_margin(clip):
    image = decode(next(t for t in open_video(clip).tracklets if colour_of(decode(t.read(0))) == "blue").read(3))
    rows, columns = np.nonzero((np.abs(image.astype(int) - COLOURS["blue"]) < 80).all(axis=2))
    # 48 x 20 pixels with a tenth of 48 above and below: 57.6 x 28.8 in the crop's shape
    assert abs(rows.min() - 256 * 4.8 / 57.6) < 8 and abs(256 - rows.max() - 256 * 4.8 / 57.6) < 8
    assert abs(columns.min() - 128 * 4.4 / 28.8) < 8 and abs(128 - columns.max() - 128 * 4.4 / 28.8) < 8


def test_folder_of_videos_is_one_data_set(tmp_path):
    write_video(tmp_path / "a.avi", {"red": WALKERS["red"]})
    write_video(tmp_path / "b.AVI", {"green": WALKERS["green"]})
    (tmp_path / "notes.txt").write_text("no video")
    dataset = open_video(tmp_path)
    assert {t.pid: t.sources[0].partition("#")[0] for t in dataset.tracklets} == {1: "a.avi", 2: "b.AVI"}
    assert {t.name[:8] for t in dataset.tracklets} == {"V01T0001", "V02T0001"}


def test_detector_by_name_sees_full_frames_large_enough(tmp_path, monkeypatch):
    create = Mock(return_value=ColourDetector())
    monkeypatch.setattr(video.detectors, "create", create)
    clip = write_video(tmp_path / "wide.avi", WALKERS, size=(120, 240))
    open_video(clip, detector="hog", confidence=0.9)
    create.assert_called_with("hog", confidence=0.9, input_size=None, default_size=(480, 960), flag="--video_detector")
    open_video(clip, detector="darknet:a.cfg,b.weights")
    assert create.call_args.kwargs["default_size"] == (320, 640)
    open_video(clip, detector="hog", input_size=(320, 320))
    assert create.call_args.kwargs["input_size"] == (320, 320)


def test_missing_and_broken_videos_and_one_of_a_single_track_are_named(tmp_path):
    check_refused(r"gone\.avi: holds no video", open_video, tmp_path / "gone.avi")
    (tmp_path / "broken.avi").write_bytes(b"RIFF but nothing else")
    check_refused(r"broken\.avi: OpenCV cannot read this video", open_video, tmp_path / "broken.avi")
    path = write_video(tmp_path / "lonely.avi", {"red": WALKERS["red"]})
    check_refused(r"lonely\.avi: 1 tracks.*lower the minimum length", open_video, path)


@pytest.mark.parametrize("length, frames", [(lambda content: len(content) // 2, r"\d+"),
                                            (lambda content: content.index(b"movi") + 4, "0")])
def test_a_truncated_video_is_not_a_short_one(clip, length, frames):
    content = clip.read_bytes()
    clip.write_bytes(content[:length(content)])
    check_refused(rf"yard\.avi: the video ends after {frames} of 40 frames", open_video, clip)


@pytest.mark.parametrize("field, value, expected", [
    ("frames", 2**31 - 1, r"the video ends after 40 of \d{6,} frames"), ("frames", 3, 8), ("size", 60_000, 8)])
def test_what_a_video_claims_of_itself_is_not_believed(clip, field, value, expected):
    content = bytearray(clip.read_bytes())
    main, stream, format_of = (content.index(name) + 8 for name in (b"avih", b"strh", b"strf"))
    places = {"frames": (main + 16, stream + 32), "size": (main + 32, main + 36, format_of + 4, format_of + 8)}
    for place in places[field]:
        struct.pack_into("<I", content, place, value)
    clip.write_bytes(content)
    if isinstance(expected, int):
        assert len(open_video(clip).tracklets) == expected
    else:
        check_refused(expected, open_video, clip)


@pytest.mark.parametrize("options", [{"minimum_length": 1}, {"stride": 0}, {"seed": -1}])
def test_options_out_of_range(clip, options):
    check_refused(r"--(minimum_length=1|video_stride=0|seed=-1): must be at least", open_video, clip, **options)
