"""The report of an evaluation, `<workdir>/report`: pages in a folder of their own, and pictures of ranked lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Search
from cfaan_jax.models import VideoReID
from cfaan_jax.report import attention, curves, details, frames_page
from cfaan_jax.report.frames import FRAMES_IN_STRIP, TrackletFrames, write_strip
from cfaan_jax.report.page import PageFolder, pages
from cfaan_jax.report.ranked_lists import Entry, RankedList, draw
from cfaan_jax.report.ranked_queries import RankedQuery, Selection, distance_name, distance_text, label_text, select
from cfaan_jax.runtime.text_tables import TableContent

_FEW = 12  # queries in the pictures and on the page of frames


@dataclass(frozen=True)
class Evaluation:
    """What a report shows."""

    search: Search
    scores: Mapping[str, Score]  # by protocol; camera pairs and ranked lists are those of the first one
    table: TableContent  # the scores as they are printed
    model: VideoReID  # with the weights that were scored
    config: ConfigDict

    @property
    def score(self) -> Score:
        """Under the first protocol."""
        return next(iter(self.scores.values()))


def write(evaluation: Evaluation, workdir: Path) -> Path:
    """Writes the pages, with every query and camera pair as CSV files, and pictures of a few ranked lists.

    Everything goes to the folder report of `workdir`, whose metrics.csv is drawn if there is one. Returns the page to
    open first.
    """
    search, config = evaluation.search, evaluation.config
    frames = TrackletFrames(search, config.data.records)
    selection = select(search, evaluation.score, config.eval.corrections, config.eval.report_lists)
    few = selection.few(_FEW)
    tag = f"{search.about.weights}-{search.about.clips}"
    folder = workdir / "report" / tag
    with pages(folder, _site(evaluation), search.about.line()) as site:
        _write_index(site, evaluation, workdir / "metrics.csv")
        _write_ranked(site, evaluation, selection, frames)
        if frames_page.FILE in site.files:
            frames_page.write(site, search, few, frames, evaluation.model, config)
    for kind, queries in (("worst", few.worst), ("typical", few.typical)):
        if queries:
            _draw_lists(evaluation, kind, queries, frames, workdir / "report" / f"ranked-{kind}-{tag}.png")
    return folder / "index.html"


def _site(evaluation: Evaluation) -> dict[str, str]:
    site = {"index.html": "Evaluation", "ranked.html": "Ranked lists"}
    if attention.exists(evaluation.config):
        site[frames_page.FILE] = "Frames and attention"
    elif evaluation.search.about.aligned:
        site[frames_page.FILE] = "Frames"
    return site


def _write_index(site: PageFolder, evaluation: Evaluation, metrics_csv: Path) -> None:
    search, score = evaluation.search, evaluation.score
    pairs = search.camera_pairs(protocols.get(score.protocol), evaluation.config.eval.corrections)
    details.write_queries(search, evaluation.scores, site.file("queries.csv"))
    details.write_cameras(pairs, site.file("cameras.csv"))
    curves.cmc(evaluation.scores, site.file("cmc.svg"))
    curves.precision(score, site.file("precision.svg"))
    curves.cameras(pairs, site.file("cameras.svg"))
    trained = metrics_csv.exists()
    if trained:
        curves.training(metrics_csv, site.file("training.svg"))
    site.page("index.html", table=evaluation.table, score=score, trained=trained)


def _write_ranked(site: PageFolder, evaluation: Evaluation, selection: Selection, frames: TrackletFrames) -> None:
    search, queries = evaluation.search, selection.all()
    rows = {row for query in queries for row in (query.row, *(answer.row for answer in query.answers))}
    tracklets = {row: {"name": str(search.names[row]), "label": label_text(search, row),
                       "strip": write_strip(site, row, frames)} for row in sorted(rows)}
    query_rows = [query.row for query in queries]
    site.page("ranked.html", [site.static("ranked.js")], score=evaluation.score, selection=selection,
              tracklets=tracklets, pids=search.pids, camids=search.camids, distance=partial(distance_text, search),
              distance_name=distance_name(search), pid_choices=sorted(set(search.pids[query_rows].tolist())),
              camid_choices=sorted(set(search.camids[query_rows].tolist())))


def _draw_lists(evaluation: Evaluation, kind: str, queries: Sequence[RankedQuery], frames: TrackletFrames,
                path: Path) -> None:
    search, score = evaluation.search, evaluation.score
    distance = distance_name(search)
    lists = [RankedList(
        f"{search.names[query.row]}: {label_text(search, query.row)}, AP {query.ap:.1%}",
        [Entry(frame, (), "query") for frame in frames.spread(query.row, FRAMES_IN_STRIP)],
        [Entry(frames.spread(answer.row, 1)[0],
               (label_text(search, answer.row), f"{distance} {distance_text(search, answer)}"), answer.kind)
         for answer in query.answers])
        for query in queries]
    draw(lists, path, f"{kind} queries by average precision under {score.protocol}: mAP {score.mAP:.1%}, gallery "
                      f"{score.gallery_size:,}, {score.num_valid:,} valid queries\n{search.about.line()}")
