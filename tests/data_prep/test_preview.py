"""Contact sheets: what is on them, read back from their pixels."""

import numpy as np

from data_prep.redetect_link import preview
from data_prep.redetect_link.alignment import AlignedFrame, Candidates
from data_prep.redetect_link.tracklet import Tracklet

GREEN, ORANGE, RED, BLUE = (0, 150, 60), (220, 120, 0), (200, 30, 60), (40, 120, 220)
GREY = np.full((256, 128, 3), 180, np.uint8)


def frame(chosen=0, distances=None, shade=77):
    image = np.zeros((256, 128, 3), np.uint8)
    image[:, 32:96] = shade
    boxes = np.array([(20, 240, 10, 60), (30, 200, 70, 110)], np.int32)
    if chosen is None:
        persons, box, action = Candidates(boxes[:0], np.zeros(0, np.float32)), (0, 256, 0, 128), "fallback"
    else:
        persons = Candidates(boxes, np.array([0.9, 0.8], np.float32), distances, chosen)
        box, action = tuple(boxes[chosen].tolist()), "linked|shift_left"
    return AlignedFrame(image, (0, 256, 32, 96), box, action, persons)


def sheet(frames, image=GREY, **options):
    tracklet = Tracklet("0001C1T0001", "train", 0, 1, 1, tuple(f"{k}.jpg" for k in range(len(frames))), lambda _: b"")
    return preview.contact_sheet(tracklet, [image] * len(frames), frames, **options)


def count(picture, colour):
    return int((picture == colour).all(axis=2).sum())


def test_candidates_are_drawn_and_the_chosen_one_stands_out():
    first, second = sheet([frame(chosen=0)]), sheet([frame(chosen=1)])
    assert first.dtype == np.uint8 and first.shape == second.shape
    for picture in (first, second):
        assert count(picture, ORANGE) > 300 and count(picture, RED) == 0
    # the first box is the longer one: its outline has the chosen colour or the other one
    assert count(first, GREEN) > count(first, ORANGE) and count(second, GREEN) < count(second, ORANGE)


def test_fallback_is_drawn_in_its_own_colour():
    picture = sheet([frame(chosen=None)])
    assert count(picture, RED) > 500 and count(picture, GREEN) == count(picture, ORANGE) == 0


def test_mask_row_shows_the_real_pixels_inside_their_outline():
    picture = sheet([frame(shade=77)])
    half = 256 * 64
    assert count(picture, (77, 77, 77)) > 1.9 * half * 0.94  # after and mask rows, less the outline of the mask
    assert count(picture, (0, 0, 0)) > 0.95 * half           # black padding: only in the row after
    assert count(picture, BLUE) > 500


def test_distances_are_written_where_there_are_some():
    assert not np.array_equal(sheet([frame()]), sheet([frame(distances=np.array([0.0, 12.5]))]))


def test_long_tracklets_are_thinned_out_evenly():
    frames = [frame(shade=50 + k) for k in range(30)]
    picture = sheet(frames, columns=4)
    assert [k for k in range(30) if count(picture, (50 + k,) * 3) > 5000] == [0, 10, 19, 29]
    assert sheet(frames[:1], columns=4).shape[1] < picture.shape[1]


def test_tiny_images_can_be_drawn():
    image = np.full((1, 1, 3), 9, np.uint8)
    tiny = AlignedFrame(image, (0, 1, 0, 1), (0, 1, 0, 1), "fallback",
                        Candidates(np.zeros((0, 4), np.int32), np.zeros(0, np.float32)))
    assert count(sheet([tiny], image), (9, 9, 9)) > 10000
