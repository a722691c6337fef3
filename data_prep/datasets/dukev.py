"""DukeMTMC-VideoReID as released: `train`, `query` and `gallery`, with one folder a tracklet.

    <split>/<identity>/<tracklet>/0001_C1_F0001_X43823.jpg

The file name holds identity, camera, number of the frame in the tracklet and in the video; an older release writes it
without underscores. Wu et al., Exploit the Unknown Gradually, CVPR 2018.
"""

import re
from pathlib import Path

from cfaan_jax.errors import InputError
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

CAMERAS = 8
SPLITS = ("train", "query", "gallery")
_FRAME = re.compile(r"(\d{4})_?C(\d)_?F(\d+)_?X(\d+)\.jpg")


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Tracklets are numbered in the order of identity and tracklet folder: training tracklets from 0, and queries before
    gallery tracklets in one test list.

    Raises:
        InputError: a missing folder, an empty tracklet, or a file name that is not of the released form.
    """
    missing = [split for split in SPLITS if not (root / split).is_dir()]
    if missing:
        raise InputError(f"{root}: no folder {' or '.join(missing)}; --root is the folder DukeMTMC-VideoReID "
                         "that holds train, query and gallery")
    folders = {split: _tracklet_folders(root / split) for split in SPLITS}
    first_ids = {"train": 0, "query": 0, "gallery": len(folders["query"])}
    return Dataset("dukev", [
        _tracklet(root, folder, split, first_ids[split] + position)
        for split in SPLITS for position, folder in enumerate(folders[split])])


def _tracklet_folders(split: Path) -> list[Path]:
    found = []
    for identity in _subfolders(split):
        found += _subfolders(identity)
    if not found:
        raise InputError(f"{split}: holds no <identity>/<tracklet> folder; unpack the data set again")
    return found


def _subfolders(folder: Path) -> list[Path]:
    """Returns the numbered folders in `folder` by number; archives made on other systems add hidden ones."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    strange = sorted(path.name for path in inside if not path.name.isdecimal())
    if strange:
        raise InputError(f"{folder / strange[0]}: the name of this folder is not a number; move it away")
    return sorted(inside, key=lambda path: int(path.name))


def _tracklet(root: Path, folder: Path, split: str, track_id: int) -> Tracklet:
    frames = []
    for path in folder.glob("*.jpg"):
        match = _FRAME.fullmatch(path.name)
        if match is None:
            raise InputError(f"{path}: not a frame name such as 0001_C1_F0001_X43823.jpg; restore the released name")
        pid, camera, number, video_frame = map(int, match.groups())
        frames.append((number, video_frame, path.name, pid, camera))
    if not frames:
        raise InputError(f"{folder}: empty tracklet, no .jpg file; unpack the data set again or remove the folder")
    frames.sort()
    pids, cameras = {frame[3] for frame in frames}, {frame[4] for frame in frames}
    if pids != {int(folder.parent.name)}:
        raise InputError(f"{folder}: frames of identity {sorted(pids)}; move them to the folder of that identity")
    if len(cameras) > 1 or not 1 <= min(cameras) <= CAMERAS:
        raise InputError(f"{folder}: frames from camera {sorted(cameras)}; a tracklet has one camera, 1 to {CAMERAS}")
    sources = tuple(f"{split}/{folder.parent.name}/{folder.name}/{frame[2]}" for frame in frames)
    return Tracklet(
        name=f"{split}-{folder.parent.name}-{folder.name}", split=split, track_id=track_id, pid=pids.pop(),
        camid=cameras.pop(), sources=sources, read=FrameFiles(root, sources))
