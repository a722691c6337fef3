"""The label review page: a person decides about the tracklets with the most doubtful labels (paper, section 4.5).

    python -m cfaan_jax.report.review runs/mars/features-last-all_sampled.npz --records=/data/mars-dl --out=review

writes a folder that opens from disk. The browser holds the decisions until they are saved as `corrections.csv` or as
the six columns of the authors' `clean_tracks_test_info.mat`. --corrections reads either file again; the page reads the
CSV. So a review can continue on another machine.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import corrections
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.frames import TrackletFrames, side_by_side
from cfaan_jax.report.label_review import suspects
from cfaan_jax.report.page import PageFolder, pages
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.progress import Progress

_PAGE = "review.html"
_FRAMES, _HEIGHT, _WIDTH = 8, 128, 64


def write(search: Search, records: str | Path, folder: Path, count: int,
          corrections_file: str | Path | None = None) -> list[suspects.Suspect]:
    """Writes the page of the `count` most doubtful tracklets into a folder, where an older page is replaced.

    `search` was made from `records`; `corrections_file` has the decisions of an earlier review. Returns the tracklets
    in question, in the order of the page. InputError: other records than the features', unreadable corrections,
    something else in the folder.
    """
    frames = TrackletFrames(search, records)
    names = [name for part in frames.parts for name in part.names]
    if names != search.names.tolist() or load_manifest(records)["aligned"] != search.about.aligned:
        raise InputError(f"{records}: not the records from which these features were made; give the folder that the "
                         "run's config.data.records named")
    earlier = _earlier_decisions(search, corrections_file)
    doubtful = suspects.find(search, count_crowded(frames.parts))[:count]
    with pages(folder, {_PAGE: "Label review"}, search.about.line(), templates=Path(__file__).parent) as page:
        page.data("labels", _labels(search, frames.parts))
        page.data("suspects", {"suspects": [_question(search, suspect) for suspect in doubtful], "earlier": earlier,
                               "tracklets": _tracklets(page, search, frames, doubtful)})
        page.static("review.css")
        page.page(_PAGE, scripts=["labels.js", "suspects.js", page.static("review.js")], shown=len(doubtful),
                  review=_fingerprint(search),
                  two_persons=any(suspect.kind == suspects.AMBIGUOUS for suspect in doubtful))
    return doubtful


def count_crowded(parts: Sequence[RecordSet]) -> np.ndarray | None:
    """Number of frames with two or more detected persons, and of frames, for every tracklet, int64 [N, 2].

    None where Re-Detect and Link has not counted persons.
    """
    candidates = [part.candidates(i) for part in parts for i in range(len(part))]
    if not any(counts.any() for counts in candidates):
        return None
    return np.array([((counts >= 2).sum(), len(counts)) for counts in candidates])


def _earlier_decisions(search: Search, corrections_file: str | Path | None) -> list[list[int]]:
    """Rows (track id, identity, second identity) of a corrections file, including those that change nothing."""
    if not corrections_file:
        return []
    corrected = corrections.read(corrections_file)
    pids, second = corrected.apply(search.track_ids, search.pids)
    row_of = {track: row for row, track in enumerate(search.track_ids.tolist())}
    rows = np.array([row_of[track] for track in corrected.track_ids.tolist()], int)
    if corrected.stored is not None:  # the .mat lists every tracklet, so only its changes are decisions
        rows = rows[(pids[rows] != search.pids[rows]) | (second[rows] != pids[rows])]
    return np.stack([search.track_ids, pids, second], axis=1)[rows].tolist()


def _labels(search: Search, parts: Sequence[RecordSet]) -> list[list[int]]:
    """(track id, identity, camera, frames) of every test tracklet, in the order of the data set's list."""
    lengths = np.concatenate([part.lengths for part in parts])
    table = np.stack([search.track_ids, search.pids, search.camids, lengths], axis=1)
    return table[np.argsort(search.track_ids, kind="stable")].tolist()


def _question(search: Search, suspect: suspects.Suspect) -> dict:
    ids = search.track_ids
    return {"track": int(ids[suspect.row]), "kind": suspect.kind, "weight": round(suspect.weight, 2),
            "own": ids[list(suspect.own)].tolist(), "others": [ids[list(rows)].tolist() for rows in suspect.others]}


def _tracklets(page: PageFolder, search: Search, frames: TrackletFrames,
               doubtful: Sequence[suspects.Suspect]) -> dict[int, dict]:
    """What the page shows of every tracklet, by track id; its frames become one picture."""
    rows = sorted({row for suspect in doubtful for row in (suspect.row, *suspect.own, *sum(suspect.others, ()))})
    shown = {}
    with Progress(f"pictures of {len(rows)} tracklets", len(rows)) as progress:
        for row in rows:
            picture = page.picture(str(row), side_by_side(frames.spread(row, _FRAMES), _HEIGHT, _WIDTH, "black"))
            shown[int(search.track_ids[row])] = {"name": str(search.names[row]), "query": row < search.num_queries,
                                                 "picture": picture}
            progress.advance()
    return shown


def _fingerprint(search: Search) -> str:
    """Names the labels under review; the browser stores the decisions about different labels apart."""
    return hashlib.sha256(np.stack([search.track_ids, search.pids, search.camids]).tobytes()).hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m cfaan_jax.report.review", __doc__)
    parser.add_argument("features", type=Path, help="features-*.npz in the workdir of an evaluation")
    parser.add_argument("--records", required=True, help="the records that were evaluated")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; an older review there is replaced")
    parser.add_argument("--count", type=int, default=300, help="number of tracklets on the page (default 300)")
    parser.add_argument("--corrections", type=Path, help="an earlier review to continue, .csv or .mat")
    flags = parser.parse_args(arguments)
    if flags.count < 1:
        raise InputError(f"--count={flags.count}: must be at least 1")
    doubtful = write(Search.load(flags.features), flags.records, flags.out, flags.count, flags.corrections)
    print(f"{len(doubtful)} tracklets to look at: open {flags.out / _PAGE}")
