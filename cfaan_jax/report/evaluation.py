"""What an evaluation leaves in `<workdir>/report`: pages in a folder of their own, and pictures of ranked lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flax import nnx
from ml_collections import ConfigDict

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report import attention, curves, details, examples
from cfaan_jax.report.frames import IN_STRIP, TrackletFrames, strip
from cfaan_jax.report.listed import Chosen, Listed, choose, near, near_name, who
from cfaan_jax.report.page import PageFolder, pages
from cfaan_jax.report.ranked_lists import Entry, RankedList, draw
from cfaan_jax.runtime.text_tables import TableContent

_FEW = 12  # queries in the pictures and among the examples


@dataclass(frozen=True)
class Evaluation:
    """What there is to report.

    Attributes:
        found: features and labels.
        scores: by protocol; camera pairs and ranked lists are those of the first one.
        table: the scores as they are printed.
        model: the network, with the weights that were scored.
        config: of the experiment.
    """

    found: Search
    scores: Mapping[str, Score]
    table: TableContent
    model: nnx.Module
    config: ConfigDict

    @property
    def score(self) -> Score:
        """Under the first protocol."""
        return next(iter(self.scores.values()))

    @property
    def corrections(self) -> str:
        """File of the corrected labels, or ""."""
        return self.config.eval.corrections


def write(evaluation: Evaluation, workdir: Path) -> Path:
    """Writes the pages, with every query and camera pair as CSV files, and pictures of a few ranked lists.

    Args:
        evaluation: what to write.
        workdir: its metrics.csv is drawn if there is one; everything goes to its folder report.
    Returns:
        The page to open first.
    """
    found, config = evaluation.found, evaluation.config
    frames = TrackletFrames(found, config.data.records)
    chosen = choose(found, evaluation.score, evaluation.corrections, config.eval.report_lists)
    tag = f"{found.about.weights}-{found.about.clips}"
    folder = workdir / "report" / tag
    with pages(folder, _site(evaluation), found.about.line()) as site:
        _summary(site, evaluation, workdir / "metrics.csv")
        _ranked(site, evaluation, chosen, frames)
        if examples.FILE in site.files:
            examples.write(site, found, chosen.few(_FEW), frames, evaluation.model, config)
    for kind, listed in vars(chosen.few(_FEW)).items():
        if listed:
            _picture(evaluation, kind, listed, frames, workdir / "report" / f"ranked-{kind}-{tag}.png")
    return folder / "index.html"


def _site(evaluation: Evaluation) -> dict[str, str]:
    site = {"index.html": "Evaluation", "ranked.html": "Ranked lists"}
    if attention.exists(evaluation.config):
        site[examples.FILE] = "Frames and attention"
    elif evaluation.found.about.aligned:
        site[examples.FILE] = "Frames"
    return site


def _summary(site: PageFolder, evaluation: Evaluation, metrics_csv: Path) -> None:
    found, score = evaluation.found, evaluation.score
    pairs = found.camera_pairs(protocols.get(score.protocol), evaluation.corrections)
    details.queries(found, evaluation.scores, site.file("queries.csv"))
    details.cameras(pairs, site.file("cameras.csv"))
    curves.cmc(evaluation.scores, site.file("cmc.svg"))
    curves.precision(score, site.file("precision.svg"))
    curves.cameras(pairs, site.file("cameras.svg"))
    trained = metrics_csv.exists()
    if trained:
        curves.training(metrics_csv, site.file("training.svg"))
    site.page("index.html", table=evaluation.table, score=score, trained=trained)


def _ranked(site: PageFolder, evaluation: Evaluation, chosen: Chosen, frames: TrackletFrames) -> None:
    found, listed = evaluation.found, chosen.all()
    rows = {row for each in listed for row in (each.row, *(answer.row for answer in each.answers))}
    tracklets = {row: {"name": str(found.names[row]), "who": who(found, row), "strip": strip(site, row, frames)}
                 for row in sorted(rows)}
    queries = [each.row for each in listed]
    site.page("ranked.html", [site.static("ranked.js")], score=evaluation.score, chosen=chosen, tracklets=tracklets,
              pids=found.pids, camids=found.camids, near=partial(near, found), near_name=near_name(found),
              pid_choices=sorted(set(found.pids[queries].tolist())),
              camid_choices=sorted(set(found.camids[queries].tolist())))


def _picture(evaluation: Evaluation, kind: str, listed: Sequence[Listed], frames: TrackletFrames, path: Path) -> None:
    found, score = evaluation.found, evaluation.score
    lists = [RankedList(
        f"{found.names[each.row]}: {who(found, each.row)}, AP {each.ap:.1%}",
        [Entry(frame, (), "query") for frame in frames.spread(each.row, IN_STRIP)],
        [Entry(frames.spread(answer.row, 1)[0], _caption(found, answer), answer.kind) for answer in each.answers])
        for each in listed]
    draw(lists, path, f"{kind} queries by average precision under {score.protocol}: mAP {score.mAP:.1%}, gallery "
                      f"{score.gallery_size:,}, {score.num_valid:,} valid queries\n{found.about.line()}")


def _caption(found: Search, answer: Answer) -> tuple[str, str]:
    return who(found, answer.row), f"{near_name(found)} {near(found, answer)}"
