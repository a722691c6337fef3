"""DukeMTMC-VideoReID as released: `train`, `query` and `gallery`, with one folder a tracklet.

    <split>/<identity>/<tracklet>/0001_C1_F0001_X43823.jpg

A file name holds the identity, the camera, the number of the frame in the tracklet and in the video; an older release
has no underscores. Wu et al., Exploit the Unknown Gradually, CVPR 2018.
"""

import re
from pathlib import Path

from cfaan_jax.errors import InputError, shortened
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
        raise InputError(f"{root}: no folder {' or '.join(missing)}; --root must be the folder DukeMTMC-VideoReID "
                         "that holds train, query and gallery")
    folders = {split: _tracklet_folders(root / split) for split in SPLITS}
    first_ids = {"train": 0, "query": 0, "gallery": len(folders["query"])}
    return Dataset("dukev", [
        _tracklet(root, folder, split, first_ids[split] + position)
        for split in SPLITS for position, folder in enumerate(folders[split])])


def _tracklet_folders(split: Path) -> list[Path]:
    folders = [folder for identity in _subfolders(split) for folder in _subfolders(identity)]
    if not folders:
        raise InputError(f"{split}: holds no <identity>/<tracklet> folder; unpack the data set again")
    return folders


def _subfolders(folder: Path) -> list[Path]:
    """Returns the numbered folders in `folder` by number, without hidden ones, which other systems add to archives."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    unnumbered = sorted(path.name for path in folders if not path.name.isdecimal())
    if unnumbered:
        raise InputError(f"{folder / unnumbered[0]}: the name of this folder is not a number; move it away")
    return sorted(folders, key=lambda path: int(path.name))


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
    _, _, names, pids, cameras = zip(*sorted(frames), strict=True)
    if set(pids) != {int(folder.parent.name)}:
        raise InputError(f"{folder}: frames of identity {shortened(sorted(set(pids)))}; move them to the folder of "
                         "that identity")
    if len(set(cameras)) > 1 or not 1 <= cameras[0] <= CAMERAS:
        raise InputError(f"{folder}: frames from camera {shortened(sorted(set(cameras)))}; a tracklet has one camera, "
                         f"1 to {CAMERAS}")
    sources = tuple(f"{split}/{folder.parent.name}/{folder.name}/{name}" for name in names)
    return Tracklet(
        name=f"{split}-{folder.parent.name}-{folder.name}", split=split, track_id=track_id, pid=pids[0],
        camid=cameras[0], sources=sources, read=FrameFiles(root, sources))
