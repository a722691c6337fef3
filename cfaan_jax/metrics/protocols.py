"""The evaluation protocols of MARS and DukeMTMC-VideoReID, by name (paper, sections 4.1 and 4.5).

Section 4.1 reports rank-1 of the CMC and mAP. The protocol moves both more than most methods do, so every score names
its protocol: what the gallery holds, how average precision (AP) is computed, and which queries are averaged.

| name                | gallery                               | rows   | AP        | averaged over        |
|---------------------|---------------------------------------|--------|-----------|----------------------|
| `mars_matlab`       | all test tracklets, in file order     | 12,180 | trapezoid | all queries          |
| `mars_with_queries` | the queries, then the rest, no junk   | 11,310 | step      | queries with a match |
| `mars`              | no queries, no junk                   |  9,330 | step      | queries with a match |
| `cfaan_released`    | no queries, no junk, no distractors   |  6,082 | step      | queries with a match |
| `dukev`             | the gallery folder                    |  2,636 | step      | queries with a match |
| `<name>_revised`    | that of `<name>`, by stored identity  |        | step      | queries with a match |

`mars_matlab` is the data set's own MATLAB package; `mars_with_queries` is used by AP3D and TCLNet; `mars` by
torchreid, FT-WFT, PiT and TF-CLIP; `cfaan_released` by the loader released with the CF-AAN paper.

The original rules (section 4.1) ignore for every query, as if the gallery did not hold them, junk (pid -1) and
tracklets of the query's identity under the query's own camera.

The revised rules (section 4.5) take corrected identities, and also
- ignore distractors (pid 0) under the query's camera, because some are duplicates of the query's identity;
- give an ambiguous tracklet two identities: a pair matches when it shares either.

`ranking.Identities.of_query` computes both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfaan_jax.errors import InputError

JUNK, DISTRACTOR = -1, 0


@dataclass(frozen=True)
class Sizes:
    """Sizes on the real data set; `valid` (queries with a match) is None where it depends on the corrections."""

    queries: int
    gallery: int
    valid: int | None


@dataclass(frozen=True)
class Protocol:
    """One way to score a ranking."""

    name: str  # the argument of `score`, printed with every result
    queries: bool  # whether the gallery holds these tracklets, as for the next two
    junk: bool
    distractors: bool
    sizes: Sizes
    file_order: bool = False  # equal distances rank as in the data set's list; or the queries come first
    trapezoid: bool = False  # average precision of the MATLAB package; or the mean of the precisions at the matches
    every_query: bool = False  # a query without a match counts as zero; or it is left out
    revised: bool = False  # corrected identities and the rules of section 4.5


def _with_revised(*originals: Protocol) -> dict[str, Protocol]:
    """The protocols by name, and each one's gallery under the revised rules (section 4.5)."""
    revised = [replace(original, name=f"{original.name}_revised", trapezoid=False, every_query=False, revised=True,
                       sizes=replace(original.sizes, valid=None)) for original in originals]
    return {protocol.name: protocol for pair in zip(originals, revised, strict=True) for protocol in pair}


_MARS = _with_revised(
    Protocol("mars_matlab", queries=True, junk=True, distractors=True, sizes=Sizes(1980, 12180, 1980),
             file_order=True, trapezoid=True, every_query=True),
    Protocol("mars_with_queries", queries=True, junk=False, distractors=True, sizes=Sizes(1980, 11310, 1980)),
    Protocol("mars", queries=False, junk=False, distractors=True, sizes=Sizes(1980, 9330, 1840)),
    Protocol("cfaan_released", queries=False, junk=False, distractors=False, sizes=Sizes(1980, 6082, 1840)))
_DUKEV = _with_revised(
    Protocol("dukev", queries=False, junk=True, distractors=True, sizes=Sizes(702, 2636, None)))
PROTOCOLS: dict[str, Protocol] = _MARS | _DUKEV
_CHOICES = ", ".join(name for name, protocol in PROTOCOLS.items() if not protocol.revised) + ", or <name>_revised"
_TEST_TRACKLETS = {"mars": 12180, "dukev": 702 + 2636}


def get(name: str) -> Protocol:
    """The protocol of that name; InputError for an unknown one."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; choose from {_CHOICES}")
    return PROTOCOLS[name]


def resolve(names: str | Sequence[str], dataset: str = "mars") -> tuple[Protocol, ...]:
    """Each protocol once, by names separated by commas in one or more strings; "all" stands for those of the data set.

    InputError: a name is unknown or not a string, or there is none.
    """
    texts = [names] if isinstance(names, str) else names
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"protocols {texts!r}: must be names; choose from all, {_CHOICES}")
    single = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not single:
        raise InputError(f"no protocol is named; choose from all, {_CHOICES}")
    expanded = [name for text in single for name in (_protocols_of(dataset) if text == "all" else [text])]
    return tuple(get(name) for name in dict.fromkeys(expanded))


def sizes_apply(chosen: Sequence[Protocol], dataset: str, tracklets: int) -> bool:
    """Whether a test split of so many tracklets is all of the real data set, and the protocols are made for it."""
    return _TEST_TRACKLETS.get(dataset) == tracklets and all(
        protocol.name in _protocols_of(dataset) for protocol in chosen)


def _protocols_of(dataset: str) -> dict[str, Protocol]:
    return _DUKEV if dataset == "dukev" else _MARS


def gallery_rows(protocol: Protocol, query_pids: np.ndarray, gallery_pids: np.ndarray,
                 query_tracks: np.ndarray, gallery_tracks: np.ndarray) -> np.ndarray:
    """Which rows of [query split, gallery split] make up the protocol's gallery, in its order.

    In int [N], i < Q is query i, and Q + i is gallery tracklet i.

    Args:
        query_pids, gallery_pids: identities AS STORED, also for the revised protocols, int [Q] and [G].
        query_tracks, gallery_tracks: rows of the tracklets in the data set's own list, int [Q] and [G].
    """
    pids = np.concatenate([query_pids, gallery_pids])
    in_gallery_split = np.arange(len(pids)) >= len(query_pids)
    rows = np.flatnonzero((in_gallery_split | protocol.queries) & ((pids != JUNK) | protocol.junk)
                          & ((pids != DISTRACTOR) | protocol.distractors))
    if protocol.file_order:
        tracks = np.concatenate([query_tracks, gallery_tracks])
        rows = rows[np.argsort(tracks[rows], kind="stable")]
    return rows
