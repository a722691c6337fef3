"""The label review page: a person looks at the tracklets whose labels are in doubt, and decides (paper, section 4.5).

    python -m cfaan_jax.report.review runs/mars/features-last-all_sampled.npz --records=/data/mars-dl --out=review

writes a folder that opens from disk. What is decided there stays in the browser until it is saved as `corrections.csv`
or as the six columns of the authors' `clean_tracks_test_info.mat`. Both go back in by `--corrections`, the CSV on the
page as well, so that a review can go on elsewhere.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import corrections
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.frames import TrackletFrames, fitted
from cfaan_jax.report.label_review import suspects
from cfaan_jax.report.page import PageFolder, pages
from cfaan_jax.runtime.progress import Progress

_PAGE = "review.html"
_FRAMES, _HEIGHT, _WIDTH = 8, 128, 64


def write(found: Search, records: str | Path, folder: Path, count: int,
          corrections_file: str | Path | None = None) -> list[suspects.Suspect]:
    """Writes the page.

    Args:
        found: features and labels of the test tracklets.
        records: folder of the records they were made from.
        folder: where; an older page there is replaced.
        count: how many tracklets to ask about, the most doubtful ones.
        corrections_file: decisions of an earlier review.
    Returns:
        What the page asks about, in its order.
    Raises:
        InputError: other records than the features', unreadable corrections, something else in the folder.
    """
    frames = TrackletFrames(found, records)
    parts = frames.parts
    if ([name for part in parts for name in part.names] != found.names.tolist()
            or load_manifest(records)["aligned"] != found.about.aligned):
        raise InputError(f"{records}: not the records from which these features were made; give the folder that the "
                         "run's config.data.records named")
    earlier = _earlier(found, corrections_file)
    asked = suspects.find(found, crowded(parts))[:count]
    with pages(folder, {_PAGE: "Label review"}, found.about.line()) as page:
        page.data("labels", _labels(found, parts))
        page.data("suspects", {"suspects": [_question(found, each) for each in asked], "earlier": earlier,
                               "tracklets": _tracklets(page, found, frames, asked)})
        page.static("review.css")
        page.page(_PAGE, scripts=["labels.js", "suspects.js", page.static("review.js")], shown=len(asked),
                  review=_fingerprint(found), two_persons=any(each.kind == suspects.AMBIGUOUS for each in asked))
    return asked


def crowded(parts: Sequence[RecordSet]) -> np.ndarray | None:
    """In how many frames of each tracklet two or more persons were found, and its frames, int64 [N, 2].

    None where Re-Detect and Link has not counted any.
    """
    candidates = [part.candidates(i) for part in parts for i in range(len(part))]
    if not any(each.any() for each in candidates):
        return None
    return np.array([((each >= 2).sum(), len(each)) for each in candidates])


def _earlier(found: Search, corrections_file: str | Path | None) -> list[list[int]]:
    """Rows (track id, identity, second identity) of a file, those that change nothing included."""
    if not corrections_file:
        return []
    given = corrections.read(corrections_file)
    pids, second = given.apply(found.track_ids, found.pids)
    row_of = {track: row for row, track in enumerate(found.track_ids.tolist())}
    changes = given.stored is not None  # the .mat lists every tracklet, so only those that it changes were decided
    rows = [row_of[track] for track in given.track_ids.tolist()]
    return [[int(found.track_ids[row]), int(pids[row]), int(second[row])] for row in rows
            if not changes or pids[row] != found.pids[row] or second[row] != pids[row]]


def _labels(found: Search, parts: Sequence[RecordSet]) -> list[list[int]]:
    """(track id, identity, camera, frames) of every test tracklet, in the order of the data set's list."""
    lengths = np.concatenate([part.lengths for part in parts])
    table = np.stack([found.track_ids, found.pids, found.camids, lengths], axis=1)
    return table[np.argsort(found.track_ids, kind="stable")].tolist()


def _question(found: Search, suspect: suspects.Suspect) -> dict:
    ids = found.track_ids
    return {"track": int(ids[suspect.row]), "kind": suspect.kind, "weight": round(suspect.weight, 2),
            "own": ids[list(suspect.own)].tolist(), "others": [ids[list(rows)].tolist() for rows in suspect.others]}


def _tracklets(page: PageFolder, found: Search, frames: TrackletFrames,
               asked: Sequence[suspects.Suspect]) -> dict[int, dict]:
    """What is shown of each tracklet on the page, by track id; its frames become one picture."""
    rows = sorted({row for each in asked for row in (each.row, *each.own, *sum(each.others, ()))})
    shown = {}
    with Progress(f"pictures of {len(rows)} tracklets", len(rows)) as progress:
        for row in rows:
            picture = page.picture(str(row), _strip(frames.spread(row, _FRAMES)))
            shown[int(found.track_ids[row])] = {"name": str(found.names[row]), "query": row < found.num_queries,
                                                "picture": picture}
            progress.advance()
    return shown


def _strip(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames side by side, uint8 `[h, w, 3]` RGB."""
    return np.concatenate([np.asarray(fitted(frame, _HEIGHT, _WIDTH, "black")) for frame in frames], axis=1)


def _fingerprint(found: Search) -> str:
    """Names the labels under review, by which the browser keeps decisions of different ones apart."""
    return hashlib.sha256(np.stack([found.track_ids, found.pids, found.camids]).tobytes()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page that the flags ask for."""
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.report.review", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, help="features-*.npz in the workdir of an evaluation")
    parser.add_argument("--records", required=True, help="the records that were evaluated")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; an older review there is replaced")
    parser.add_argument("--count", type=int, default=300, help="how many tracklets to ask about (default 300)")
    parser.add_argument("--corrections", type=Path, help="an earlier review to go on with, .csv or .mat")
    flags = parser.parse_args(arguments)
    if flags.count < 1:
        raise InputError(f"--count={flags.count}: must be at least 1")
    asked = write(Search.load(flags.features), flags.records, flags.out, flags.count, flags.corrections)
    print(f"{len(asked)} tracklets to look at: open {flags.out / _PAGE}")
