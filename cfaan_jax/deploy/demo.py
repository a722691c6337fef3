"""Searches the tracklets of the first camera among those of the others and writes a page of the ranked lists.

    python -m cfaan_jax.demo runs/demo/records --weights=runs/mars --out=runs/demo/report

`launch/demo.sh` makes such records from videos and then calls this. Weights are whatever `FeatureExtractor.open` takes.
Metrics are computed where identities are known, as those of tracks that were cut into halves.

Features are whitened with the tracklets at hand (cfaan_jax/metrics/whitening.py), since most weights were trained on
other cameras. --plain compares them as the network gives them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy.feature_extractor import FeatureExtractor
from cfaan_jax.evaluate.results import result_rows, score_table
from cfaan_jax.metrics import whitening
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.report import matches, page
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.text_tables import show

_PROTOCOL = "mars"


def search_of(extractor: FeatureExtractor, records: str | Path, weights: str, plain: bool = False) -> Search:
    """Features and labels of a record set; not whitened if `plain`, or with too few tracklets for it."""
    manifest, splits = load_manifest(records), [RecordSet.open(records, split) for split in ("query", "gallery")]
    about = About(manifest["dataset"], manifest["note"], manifest["aligned"], model=Path(weights).name, seed=None,
                  weights=weights, clips=extractor.clips, distance=extractor.distance)
    if plain or sum(map(len, splits)) < whitening.MIN_TRACKLETS:
        features = np.concatenate([extractor(split).features for split in splits])
    else:
        features, about = extractor.whitened(*splits).features, replace(about, distance="cosine", whitened=True)
    return Search.of_splits(features, *splits, about)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m cfaan_jax.demo", __doc__)
    parser.add_argument("records", type=Path, help="folder that data_prep/build_tfrecords.py wrote")
    parser.add_argument("--weights", required=True,
                        help="a workdir, a folder that --mode=export wrote, an .onnx file of a re-identification "
                             "network, or weights of CF-AAN with torch's names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page; an older one is replaced")
    parser.add_argument("--plain", action="store_true", help="compare features as the network gives them")
    parser.add_argument("--check", action="store_true",
                        help="only check that the weights open and the page can be written; needs no records yet")
    flags = parser.parse_args(arguments)
    extractor = FeatureExtractor.open(flags.weights)
    page.check(flags.out, matches.PAGE)
    if flags.check:
        return
    search = search_of(extractor, flags.records, flags.weights, flags.plain)
    labelled = np.isin(search.pids[:search.num_queries], search.pids[search.num_queries:]).any()
    score = search.score(_PROTOCOL)[_PROTOCOL] if labelled else None
    visible = matches.co_visible(search, flags.records)
    written = matches.write(search, score, visible, flags.records, flags.out)
    if score:
        show(search.about.line(), *score_table(result_rows(search, {_PROTOCOL: score}, None)))
        counts = {"": (score.first == 1).sum()}
        if visible is not None:
            counts |= {" without co-visible tracklets": matches.rank1_queries(search, ~visible.tracklets),
                       " among co-visible tracks": matches.rank1_queries(search, visible.identities)}
        for condition, count in counts.items():
            print(f"rank-1{condition}: {count} of {score.num_valid} queries")
    else:
        print(f"{len(matches.mutual_neighbours(search))} pairs of a query and a tracklet of another camera are mutual "
              "nearest neighbours")
    print(f"report: {written}")
