"""The video reader, on small videos written here: coloured blocks that a stand-in detector knows by their colour."""

import struct

import cv2
import numpy as np
import pytest

from cfaan_jax.errors import InputError
from data_prep.datasets import DATASETS, video
from data_prep.redetect_link.detectors import Detections

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230), "yellow": (230, 230, 20)}


class ColourDetector:
    """Detects one box around every bright saturated colour; counts its frames."""

    def __init__(self):
        self.frames = 0

    def detect(self, images):
        self.frames += len(images)
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image):
        boxes = []
        for colour in COLOURS.values():
            rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 60).all(axis=2))
            if len(rows) > 50:
                boxes.append((rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
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


def decode(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


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
    by_split = {split: [t for t in tracklets if t.split == split] for split in ("train", "query", "gallery")}
    assert [t.split for t in tracklets] == ["train"] * 4 + ["query"] * 2 + ["gallery"] * 2
    assert len({t.name for t in tracklets}) == 8
    train = {t.pid for t in by_split["train"]}
    assert len(train) == 2 and not train & {t.pid for t in by_split["query"]}
    assert [t.camid for t in by_split["query"]] == [1, 1] and [t.camid for t in by_split["gallery"]] == [2, 2]
    assert [t.pid for t in by_split["query"]] == [t.pid for t in by_split["gallery"]]
    assert [t.track_id for t in by_split["train"]] == [0, 1, 2, 3]
    assert [t.track_id for t in by_split["query"] + by_split["gallery"]] == [0, 1, 2, 3]
    for query, gallery in zip(by_split["query"], by_split["gallery"], strict=True):
        assert query.sources[-1] < gallery.sources[0]  # the first half comes first
        assert query.sources[0].startswith("yard.avi#")


def test_no_track_is_for_training_if_none_is_wanted(clip):
    assert [t.split for t in open_video(clip, training_share=0).tracklets] == ["query"] * 4 + ["gallery"] * 4
    with pytest.raises(InputError, match="--training_share=1: must be at least 0 and below 1"):
        open_video(clip, training_share=1)


def test_several_files_are_cameras_and_every_track_a_person_of_its_own(tmp_path):
    files = [write_video(tmp_path / "a.avi", {"red": WALKERS["red"], "green": WALKERS["green"]}),
             write_video(tmp_path / "b.avi", {"green": WALKERS["green"]}),
             write_video(tmp_path / "c.avi", {"blue": WALKERS["blue"]})]
    dataset = open_video(":".join(map(str, files)))
    assert "nobody knows who is who" in dataset.note
    assert [(t.name, t.split, t.track_id, t.pid, t.camid) for t in dataset.tracklets] == [
        ("V01T0001", "query", 0, 1, 1), ("V01T0002", "query", 1, 2, 1), ("V02T0001", "gallery", 2, 3, 2),
        ("V03T0001", "gallery", 3, 4, 3)]
    assert [len(t) for t in dataset.tracklets] == [39, 35, 35, 23]
    assert colour_of(decode(dataset.tracklets[3].read(0))) == "blue"
    with pytest.raises(InputError, match=r"no video '.*gone\.avi'; join the names of video files by ':'"):
        open_video(f"{files[0]}:{tmp_path / 'gone.avi'}")
    with pytest.raises(InputError, match=r"b\.avi: no track of at least 37 frames"):
        open_video(f"{files[0]}:{files[1]}", minimum_length=37)


def test_same_seed_same_tracklets(clip):
    def facts(seed):
        return [(t.name, t.split, t.pid, t.sources, tuple(map(t.read, range(len(t)))))
                for t in open_video(clip, seed=seed).tracklets]

    first = facts(0)
    assert facts(0) == first
    assert any(facts(seed) != first for seed in range(1, 6))


def test_short_tracks_and_small_persons_are_dropped(clip):
    assert len(open_video(clip, minimum_length=20).tracklets) == 6  # yellow has 19 frames
    with pytest.raises(InputError, match=r"yard\.avi: 0 tracks"):
        open_video(clip, minimum_height=60)


def test_stride_skips_frames(clip):
    detector = ColourDetector()
    dataset = open_video(clip, detector=detector, stride=2, minimum_length=5)
    assert detector.frames == 20
    numbers = {int(source.partition("#")[2]) for t in dataset.tracklets for source in t.sources}
    assert numbers == set(range(2, 40, 2))


def test_person_hidden_for_a_moment_keeps_the_track(tmp_path):
    class Blinking(ColourDetector):
        def detect(self, images):
            answers = super().detect(images)
            first = self.frames - len(images)
            nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
            return [nobody if first + k in (15, 16) else answer for k, answer in enumerate(answers)]

    path = write_video(tmp_path / "yard.avi", {"red": WALKERS["red"], "green": WALKERS["green"]})
    dataset = open_video(path, detector=Blinking())
    assert {t.pid for t in dataset.tracklets} == {1, 2}
    assert sum(len(t) for t in dataset.tracklets) == 39 + 35 - 4


def test_crops_show_the_person_upright_in_the_middle_with_a_margin(clip):
    tracklet = next(t for t in open_video(clip).tracklets if colour_of(decode(t.read(0))) == "blue")
    image = decode(tracklet.read(3))
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
    asked = {}

    def create(spec, **options):
        asked.update(options, spec=spec)
        return ColourDetector()

    monkeypatch.setattr(video.detectors, "create", create)
    clip = write_video(tmp_path / "wide.avi", WALKERS, size=(120, 240))
    open_video(clip, detector="hog", confidence=0.9)
    assert asked == {"spec": "hog", "confidence": 0.9, "input_size": None, "default_size": (480, 960),
                     "flag": "--video_detector"}
    open_video(clip, detector="darknet:a.cfg,b.weights")
    assert asked["default_size"] == (320, 640)
    open_video(clip, detector="hog", input_size=(320, 320))
    assert asked["input_size"] == (320, 320)


def test_missing_and_broken_videos_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.avi: holds no video"):
        open_video(tmp_path / "gone.avi")
    (tmp_path / "broken.avi").write_bytes(b"RIFF but nothing else")
    with pytest.raises(InputError, match=r"broken\.avi: OpenCV cannot read this video"):
        open_video(tmp_path / "broken.avi")


@pytest.mark.parametrize("length, frames", [(lambda content: len(content) // 2, r"\d+"),
                                            (lambda content: content.index(b"movi") + 4, "0")])
def test_a_truncated_video_is_not_a_short_one(clip, length, frames):
    content = clip.read_bytes()
    clip.write_bytes(content[:length(content)])
    with pytest.raises(InputError, match=rf"yard\.avi: the video ends after {frames} of 40 frames"):
        open_video(clip)


@pytest.mark.parametrize("field, value, expected", [
    ("frames", 2**31 - 1, r"the video ends after 40 of \d{6,} frames"), ("frames", 3, 8), ("size", 60_000, 8),
])
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
        with pytest.raises(InputError, match=expected):
            open_video(clip)


def test_video_with_one_track_is_refused_with_a_remedy(tmp_path):
    path = write_video(tmp_path / "lonely.avi", {"red": WALKERS["red"]})
    with pytest.raises(InputError, match=r"lonely\.avi: 1 tracks.*lower the minimum length"):
        open_video(path)


@pytest.mark.parametrize("options", [{"minimum_length": 1}, {"stride": 0}, {"seed": -1}])
def test_options_out_of_range(clip, options):
    with pytest.raises(InputError, match=r"--(minimum_length=1|video_stride=0|seed=-1): must be at least"):
        open_video(clip, **options)
