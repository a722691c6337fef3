"""The evaluation protocols of MARS and DukeMTMC-VideoReID, by name.

In this field the protocol moves the figures more than most methods do, so none is a default that goes without
saying: each is a frozen definition of what the gallery is made of, how average precision (AP) is computed and over
which queries is averaged.

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

For each query some gallery rows are ignored, as if they were not there: junk (pid -1) always; tracklets of the
query's own camera that show the query's identity; and under the revised rules (paper, section 4.5) also distractors
(pid 0) of the query's camera, because nobody has checked that they do not show the same person. The revised rules
take the corrected identities, and an ambiguous tracklet has two: a pair matches when they share either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfaan_jax.errors import InputError

JUNK, DISTRACTOR = -1, 0


@dataclass(frozen=True)
class Sizes:
    """What a protocol counts on the real data set; `valid` (queries with a match) is None where corrections decide."""

    queries: int
    gallery: int
    valid: int | None


@dataclass(frozen=True)
class Protocol:
    """One way to score a ranking.

    Attributes:
        name: as given to `score` and printed with every figure.
        queries, junk, distractors: whether these rows belong to the gallery.
        file_order: the gallery's rows are in the order of the data set's list (it decides between equal distances);
            otherwise the queries come first.
        trapezoid: average precision of the MATLAB package; otherwise the mean of the precisions at the matches.
        every_query: a query without a match counts as zero; otherwise it is left out.
        revised: corrected identities and the rules of section 4.5.
        sizes: on the real data set.
    """

    name: str
    queries: bool
    junk: bool
    distractors: bool
    sizes: Sizes
    file_order: bool = False
    trapezoid: bool = False
    every_query: bool = False
    revised: bool = False

    def revise(self) -> "Protocol":
        """The same gallery under the revised rules."""
        return replace(self, name=f"{self.name}_revised", trapezoid=False, every_query=False, revised=True,
                       sizes=replace(self.sizes, valid=None))


def _with_revised(*originals: Protocol) -> dict[str, Protocol]:
    return {protocol.name: protocol for original in originals for protocol in (original, original.revise())}


_MARS = _with_revised(
    Protocol("mars_matlab", queries=True, junk=True, distractors=True, sizes=Sizes(1980, 12180, 1980),
             file_order=True, trapezoid=True, every_query=True),
    Protocol("mars_with_queries", queries=True, junk=False, distractors=True, sizes=Sizes(1980, 11310, 1980)),
    Protocol("mars", queries=False, junk=False, distractors=True, sizes=Sizes(1980, 9330, 1840)),
    Protocol("cfaan_released", queries=False, junk=False, distractors=False, sizes=Sizes(1980, 6082, 1840)))
_DUKEV = _with_revised(
    Protocol("dukev", queries=False, junk=True, distractors=True, sizes=Sizes(702, 2636, None)))
PROTOCOLS: dict[str, Protocol] = _MARS | _DUKEV
_TEST_TRACKLETS = {"mars": 12180, "dukev": 702 + 2636}


def get(name: str) -> Protocol:
    """The protocol of that name; an unknown one is an `InputError` that lists them."""
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; there are: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def resolve(names: str | Sequence[str], dataset: str = "mars") -> tuple[Protocol, ...]:
    """Protocols from names, separated by commas where one string holds several, or "all" that suit the data set."""
    given = [names] if isinstance(names, str) else names
    if not all(isinstance(each, str) for each in given):
        raise InputError(f"protocols {given!r}: names are needed; there are: all, {', '.join(PROTOCOLS)}")
    suitable = _DUKEV if dataset == "dukev" else _MARS
    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    names = [name for each in names for name in (suitable if each == "all" else [each])]
    if not names:
        raise InputError(f"no protocol given; there are: all, {', '.join(PROTOCOLS)}")
    return tuple(get(name) for name in dict.fromkeys(names))


def sizes_apply(chosen: Sequence[Protocol], dataset: str, tracklets: int) -> bool:
    """Whether a test split is the real data set's whole one, and the protocols are made for it."""
    made_for = _DUKEV if dataset == "dukev" else _MARS
    return _TEST_TRACKLETS.get(dataset) == tracklets and all(protocol.name in made_for for protocol in chosen)


def gallery_rows(protocol: Protocol, query_pids: np.ndarray, gallery_pids: np.ndarray,
                 query_tracks: np.ndarray, gallery_tracks: np.ndarray) -> np.ndarray:
    """Which rows of [query split, gallery split] make up the protocol's gallery, in the protocol's order.

    Args:
        query_pids, gallery_pids: identities AS STORED, also for the revised protocols, int [Q] and [G].
        query_tracks, gallery_tracks: each tracklet's row in the data set's own list, int [Q] and [G].
    Returns:
        int [N], numbers below Q + G: i < Q is query i, the others gallery tracklet i - Q.
    """
    pids = np.concatenate([query_pids, gallery_pids])
    keep = np.ones(len(pids), bool)
    keep[:len(query_pids)] = protocol.queries
    if not protocol.junk:
        keep &= pids != JUNK
    if not protocol.distractors:
        keep &= pids != DISTRACTOR
    rows = np.flatnonzero(keep)
    if protocol.file_order:
        tracks = np.concatenate([query_tracks, gallery_tracks])
        rows = rows[np.argsort(tracks[rows], kind="stable")]
    return rows
