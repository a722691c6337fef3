"""Who appears again: searches the tracklets of the first camera among those of the others, with any weights.

    python -m cfaan_jax.demo runs/demo/records --weights=runs/mars --out=runs/demo/report

`launch/demo.sh` makes such records from videos and then calls this. Weights are whatever `FeatureExtractor.open` takes.
Where identities are known, as those of tracks that were cut into halves, figures come with the page.

Weights have rarely seen the camera at hand, so features are fitted to its tracklets: what differs between the clips of
one tracklet counts less (cfaan_jax/metrics/whitening.py). --plain compares them as the network gives them.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy.feature_extractor import FeatureExtractor
from cfaan_jax.evaluate.results import result_rows, score_table
from cfaan_jax.metrics import Score, whitening
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.report import matches, page
from cfaan_jax.runtime.text_tables import show

_PROTOCOL = "mars"


def search(extractor: FeatureExtractor, records: str | Path, weights: str, plain: bool = False) -> Search:
    """Features and labels of the queries and the gallery of a record set.

    Args:
        extractor: gives the features.
        records: folder of the record set.
        weights: what the weights are called.
        plain: leave the features as the network gives them, as it is done for too few tracklets.
    """
    manifest, parts = load_manifest(records), [RecordSet.open(records, split) for split in ("query", "gallery")]
    about = About(manifest["dataset"], manifest["note"], manifest["aligned"], model=Path(weights).name, seed=None,
                  weights=weights, clips=extractor.clips, distance=extractor.distance)
    if plain or sum(map(len, parts)) < whitening.MIN_TRACKLETS:
        features = np.concatenate([extractor(part).features for part in parts])
    else:
        features, about = extractor.whitened(*parts).features, replace(about, distance="cosine", whitened=True)
    return Search.of_splits(features, *parts, about)


def score(found: Search) -> Score | None:
    """Figures, or None where no identity of a query is in the gallery."""
    q = found.num_queries
    return found.score(_PROTOCOL)[_PROTOCOL] if np.isin(found.pids[:q], found.pids[q:]).any() else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.demo", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, help="folder that data_prep/build_tfrecords.py wrote")
    parser.add_argument("--weights", required=True,
                        help="a workdir, a folder that --mode=export wrote, an .onnx file of a re-identification "
                             "network, or weights of CF-AAN with torch's names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page; an older one is replaced")
    parser.add_argument("--plain", action="store_true", help="compare features as the network gives them")
    parser.add_argument("--check", action="store_true",
                        help="only see whether the weights open and the page can be written, before there are records")
    flags = parser.parse_args(arguments)
    extractor = FeatureExtractor.open(flags.weights)
    page.check(flags.out, matches.PAGE)
    if flags.check:
        return
    found = search(extractor, flags.records, flags.weights, flags.plain)
    scored, times = score(found), matches.co_visible(found, flags.records)
    written = matches.write(found, scored, times, flags.records, flags.out)
    if scored:
        show(found.about.line(), *score_table(result_rows(found, {_PROTOCOL: scored}, None)))
        print(f"rank-1: {(scored.first == 1).sum()} of {scored.num_valid} queries")
        if times is not None:
            print(f"rank-1 without co-visible tracklets: {matches.rank1_queries(found, ~times.tracklets)} of "
                  f"{scored.num_valid} queries")
            print(f"rank-1 among co-visible tracks: {matches.rank1_queries(found, times.identities)} of "
                  f"{scored.num_valid} queries")
    else:
        print(f"{len(matches.mutual_neighbours(found))} pairs of a query and a tracklet of another camera are mutual "
              "nearest neighbours")
    print(f"report: {written}")
