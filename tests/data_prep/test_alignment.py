"""Re-Detect and Link: the rules of the alignment, case by case, and the properties of the mask."""

import argparse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.flags import parse_size
from data_prep.redetect_link import alignment, linkers
from data_prep.redetect_link.alignment import AlignmentSettings, align_tracklet
from tests.data_prep.checks import Planted, check_refused

HEIGHT, WIDTH = 256, 128


class MeanColour:
    """A linker whose feature is the mean colour of a crop; records the sizes of its calls."""

    def __init__(self):
        self.calls = []

    def features(self, crops):
        self.calls.append(len(crops))
        return np.stack([crop.mean(axis=(0, 1)) for crop in crops]).astype(np.float32)


def crop(height=HEIGHT, width=WIDTH, seed=0):
    """Noise without a black pixel, so that black means padding."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def align(images, *boxes, linker=None, **changes):
    """The frames where `boxes[i]` are detected in image i."""
    return align_tracklet(images, Planted(*boxes), linker or linkers.LargestLinker(), AlignmentSettings(**changes))


def align_one(box, image=None, **changes):
    return align([crop() if image is None else image], [box], **changes)[0]


def check_mask(frame, size=(HEIGHT, WIDTH)):
    """The mask has a pixel, lies inside, and is exactly where the image is not black."""
    y0, y1, x0, x1 = frame.rectangle
    assert 0 <= y0 < y1 <= size[0] and 0 <= x0 < x1 <= size[1]
    inside = np.zeros(size, bool)
    inside[y0:y1, x0:x1] = True
    assert frame.image.shape == (*size, 3) and frame.image.dtype == np.uint8
    np.testing.assert_array_equal(frame.image.any(axis=2), inside)


@pytest.mark.parametrize("box, rectangle, action", [
    ((0, 256, 0, 32), (0, 256, 96, 128), "largest|shift_right"),   # slim, at the left border
    ((0, 256, 96, 128), (0, 256, 0, 32), "largest|shift_left"),
    ((0, 256, 48, 80), (0, 256, 48, 80), "largest"),               # slim, in the middle
    ((0, 256, 4, 36), (0, 256, 48, 80), "largest"),                # slim, farther from the border than it reaches
    ((128, 256, 0, 128), (0, 128, 0, 128), "largest|shift_up"),    # wide, at the bottom
    ((0, 128, 0, 128), (128, 256, 0, 128), "largest|shift_down"),
    ((64, 192, 0, 128), (64, 192, 0, 128), "largest"),             # wide, in the middle
    ((0, 200, 0, 100), (0, 256, 0, 128), "largest"),               # of usual width
    ((0, 200, 0, 80), (0, 256, 13, 115), "largest"),
    ((10, 110, 20, 60), (0, 256, 13, 115), "largest")])            # the same aspect ratio, half the size
def test_slim_and_wide_boxes_at_one_border_are_shifted(box, rectangle, action):
    frame = align_one(box)
    assert (frame.rectangle, frame.action) == (rectangle, action)
    check_mask(frame)


def test_slim_box_of_a_slim_crop_touches_both_borders_and_is_centred():
    frame = align_one((0, 256, 0, 32), crop(256, 32))
    assert (frame.rectangle, frame.action) == ((0, 256, 48, 80), "largest")


def test_box_over_the_border_is_clipped_to_the_crop():
    image = crop()
    frame = align_one((-30.4, 300, 20.4, 147.6), image)
    assert frame.box == (0, 256, 20, 128)
    assert frame.candidates.boxes.tolist() == [[0, 256, 20, 128]]
    np.testing.assert_array_equal(frame.image[:, 10:118], image[:, 20:128])  # not scaled: the crop's own pixels
    check_mask(frame)


def test_pixels_come_from_the_source_when_nothing_is_scaled():
    image = crop(512, 256)
    np.testing.assert_array_equal(align_one((100, 356, 30, 158), image, padding=48 / 512).image, image[100:356, 30:158])


@pytest.mark.parametrize("box, rectangle", [((17, 18, 40, 41), (64, 192, 0, 128)), ((0, 256, 60, 61), (0, 256, 63, 64)),
                                            ((60, 61, 0, 128), (127, 128, 0, 128))])
def test_boxes_of_a_pixel_or_a_line_keep_at_least_one_row_and_column(box, rectangle):
    frame = align_one(box, minimum_area=0)
    assert (frame.box, frame.rectangle) == (box, rectangle)
    check_mask(frame)


@pytest.mark.parametrize("box, action, changes", [
    ((10, 200, -40, 0), "fallback", {"minimum_area": 0}),            # in the padding
    ((17, 18, 40, 41), "fallback", {}),
    ((0, 64, 0, 32), "largest", {"minimum_area": 0.0625}),           # exactly a sixteenth
    ((0, 64, 0, 31), "fallback", {"minimum_area": 0.0625}),
    ((0, 256, 4, 36), "largest|shift_right", {"border_reach": 4 / 128})])
def test_settings_say_what_is_too_small_and_what_touches_a_border(box, action, changes):
    assert align_one(box, **changes).action == action


def test_frame_without_a_box_takes_the_nearest_frames_box_or_the_whole_crop():
    near, far, whole = (20, 200, 30, 110), (40, 220, 20, 100), (0, 256, 0, 128)
    images = [crop(seed=k) for k in range(8)]
    frames = align(images, [near], [], [], [], [far], [], [], [], fallback_reach=2)
    assert [frame.box for frame in frames] == [near] * 3 + [far] * 4 + [whole]  # frame 2: the earlier of two
    assert [frame.action for frame in frames] == ["largest", *["fallback"] * 3, "linked", *["fallback"] * 3]
    for frame in frames:
        check_mask(frame)
    np.testing.assert_array_equal(frames[7].image, images[7])


def test_fallback_scales_with_the_size_of_the_crop():
    assert align([crop(256, 128), crop(128, 100)], [(64, 256, 32, 96)], [])[1].box == (32, 128, 25, 75)


def test_first_frame_without_a_box():
    frames = align([crop(seed=k) for k in range(3)], [], [(0, 100, 0, 50), (0, 200, 20, 120)], [(0, 200, 20, 120)],
                   linker=MeanColour())
    assert [frame.action for frame in frames] == ["fallback", "largest", "linked"]
    assert frames[0].box == frames[1].box == (0, 200, 20, 120)


def test_all_frames_without_a_box():
    images, linker = [crop(seed=k) for k in range(3)], MeanColour()
    for image, frame in zip(images, align(images, [], [], [], linker=linker), strict=True):
        np.testing.assert_array_equal(frame.image, image)
        assert (frame.box, frame.action, frame.candidates.chosen) == ((0, 256, 0, 128), "fallback", None)
    assert linker.calls == []


def test_a_crossing_person_is_not_followed():
    own, other = (0, 250, 0, 60), (0, 256, 60, 128)
    image = np.full((HEIGHT, WIDTH, 3), (30, 30, 200), np.uint8)
    image[:, :60] = 200, 30, 30
    linker, detected = MeanColour(), ([own], [other, own], [own, other])
    frames = align([image] * 3, *detected, linker=linker)
    assert [frame.box for frame in frames] == [own] * 3
    assert [frame.candidates.chosen for frame in frames] == [0, 1, 0]
    assert linker.calls == [5]  # one call for the whole tracklet
    np.testing.assert_allclose(frames[1].candidates.distances[1], 0, atol=1e-4)
    assert frames[1].candidates.distances[0] > 100
    largest = align([image] * 3, *detected)
    assert [frame.box for frame in largest] == [own, other, other]
    assert {frame.candidates.distances is None for frame in largest} == {True}


def test_features_are_not_computed_where_nothing_is_compared():
    linker = MeanColour()
    frames = align([crop()] * 2, [(0, 200, 20, 100)], [(0, 200, 30, 110)], linker=linker)
    assert linker.calls == [] and frames[1].candidates.distances is None
    assert [frame.action for frame in frames] == ["largest", "linked"]


@pytest.mark.parametrize("mode", ["replicate", "zero"])
def test_detector_sees_the_padded_crop(mode):
    image = crop(64, 32)
    detector = Planted([(0, 64, 0, 32)], border=16)
    frame = align_tracklet([image], detector, linkers.LargestLinker(),
                           AlignmentSettings(padding=0.25, padding_mode=mode))[0]
    seen = detector.images[0]
    assert seen.shape == (96, 64, 3)
    np.testing.assert_array_equal(seen[16:80, 16:48], image)
    np.testing.assert_array_equal(seen[16:80, 0], image[:, 0] if mode == "replicate" else 0)
    assert frame.box == (0, 64, 0, 32)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.lists(st.lists(st.tuples(*[st.integers(-20, 80)] * 4), max_size=3),
                                                        min_size=1, max_size=4),
       st.sampled_from([(16, 8), (17, 31), (1, 1)]))
def test_mask_holds_whatever_is_detected(height, width, boxes, size):
    tidy = [[(min(a, b), max(a, b), min(c, d), max(c, d)) for a, b, c, d in frame] for frame in boxes]
    chosen = AlignmentSettings(image_size=size, minimum_area=0, padding=0)
    images = [crop(height, width, seed) for seed in range(len(tidy))]
    frames, again = (align_tracklet(images, Planted(*tidy, border=0), MeanColour(), chosen) for _ in range(2))
    for frame, same in zip(frames, again, strict=True):
        check_mask(frame, size)
        y0, y1, x0, x1 = frame.box
        assert 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        np.testing.assert_array_equal(frame.image, same.image)
        assert (frame.rectangle, frame.action) == (same.rectangle, same.action)


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    alignment.add_flags(parser)
    return alignment.settings_from(parser.parse_args(arguments))


def test_flags_default_to_the_settings_and_set_them():
    assert parsed() == AlignmentSettings()
    changed = parsed("--image_size=64x32", "--detector_size", "320x160", "--slim_ratio=0.2", "--fallback_reach=0",
                     "--padding_mode=zero", "--detector_confidence=0.7")
    assert changed == AlignmentSettings(image_size=(64, 32), detector_size=(320, 160), slim_ratio=0.2,
                                        fallback_reach=0, padding_mode="zero", detector_confidence=0.7)


def test_help_shows_every_default(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("--image_size", "(default 256x128)", "--momentum", "(default 0.9)", "--padding_mode", "replicate"):
        assert part in shown


@pytest.mark.parametrize("flag", ["--padding=-0.1", "--momentum=1.5", "--padding_mode=mirror", "--fallback_reach=-1",
                                  "--minimum_area=2", "--border_reach=0.6"])
def test_values_out_of_range_name_their_flag(flag):
    check_refused(flag.partition("=")[0], parsed, flag)


@pytest.mark.parametrize("size", ["256", "x128", "0x12", "256x-1", "axb"])
def test_bad_sizes_are_refused(size):
    with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
        parse_size(size)
