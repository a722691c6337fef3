"""Evaluation: features of the test tracklets, scores under protocols, a report (paper, sections 4.1 and 4.5).

`--mode=evaluate` and the end of a training run call `evaluate`. It writes results.json, report/ and the features into
the workdir. `python -m cfaan_jax.evaluate FEATURES.npz` scores the features again without the network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.data import splits
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.evaluate.features import SideBySide, check_clips, extract
from cfaan_jax.evaluate.results import RANKS, score_rows, score_table
from cfaan_jax.experiment.results_file import merge_rows, rows_of
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.models import VideoReID, attention_maps
from cfaan_jax.report import attention, evaluation
from cfaan_jax.report.frames import RawQueries
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.text_tables import show


def evaluate(models: Mapping[str, VideoReID], config: ConfigDict, workdir: str | Path) -> list[dict] | None:
    """Scores networks on the test tracklets, prints their tables, and writes results.json, features and report/.

    A second evaluation in one workdir at the same time is refused. The name of a model says what weights it holds:
    "last", "best", "untrained" or "pretrained", see `experiment.weights_of`. All see the clips in one pass.

    Returns:
        The new rows of results.json: one for a protocol, another re-ranked if config.eval.rerank is set. They replace
        those that `merge_rows` names. None in processes other than the first, which alone scores and writes.
    """
    check(config, workdir)
    for model in models.values():
        check_network(model, config)
    with distributed.exclusive(Path(workdir) / lock.EVALUATION, "evaluates"):
        searches = search(models, config, config.eval.clips)
        return distributed.run_in_first_process(lambda: [
            row for name, model in models.items()
            for row in _score_and_write(searches[name], model, config, Path(workdir))])


def _score_and_write(test_set: Search, model: VideoReID, config: ConfigDict, workdir: Path) -> list[dict]:
    settings, about = config.eval, test_set.about
    workdir.mkdir(parents=True, exist_ok=True)
    test_set.save(workdir / f"features-{about.weights}-{settings.clips}.npz")
    scores, rows = score_rows(test_set, settings.protocols, settings.corrections, settings.max_rank, settings.rerank)
    table = score_table(rows)
    page = evaluation.write(evaluation.Evaluation(test_set, scores, table, model, config), workdir)
    merge_rows(workdir, rows)  # last: training takes an evaluation with rows for finished
    show(about.line(), *table)
    print(f"report: {page}")
    return rows


def search(models: Mapping[str, VideoReID], config: ConfigDict, clips: str) -> dict[str, Search]:
    """Features and labels of the test tracklets in `config.data.records`, for each model of `evaluate`."""
    manifest, (query, gallery) = load_manifest(config.data.records), test_records(config)
    networks = SideBySide(list(models.values()))
    features = np.concatenate([
        extract(networks, records, clips=clips, clip_length=config.data.clip_length, batch_size=config.eval.batch,
                image_size=tuple(config.data.image_size), workers=config.data.workers)
        for records in (query, gallery)])
    tracklets = sum(manifest["counts"][split]["tracklets"] for split in ("query", "gallery"))

    def about(weights: str) -> About:
        return About(manifest["dataset"], manifest["note"], manifest["aligned"], model=name_of(config.model),
                     seed=config.seed, weights=weights, clips=clips, distance=config.eval.distance,
                     left_out=tracklets - len(query) - len(gallery))

    parts = zip(models, np.split(features, len(models), axis=1), strict=True)
    return {weights: Search.of_splits(part, query, gallery, about(weights)) for weights, part in parts}


def test_records(config: ConfigDict) -> list[RecordSet]:
    """Query and gallery of `config.data.records`; InputError if one is missing or damaged."""
    return [splits.open_split(config.data.records, split, config.data) for split in ("query", "gallery")]


def name_of(model: ConfigDict) -> str:
    """Name of a network in tables, from config.model: its system, and its head if that is not the system's own."""
    return model.name if model.get("head", "own") == "own" else f"{model.name}, {model.head} head"


def check(config: ConfigDict, workdir: str | Path) -> None:
    """Raises InputError for what an evaluation needs and lacks, before hours of training or extraction."""
    rows_of(workdir)
    protocols.resolve(config.eval.protocols)
    query, _ = test_records(config)
    if config.eval.raw_records:
        RawQueries(config.eval.raw_records, query.names)


def check_network(model: VideoReID, config: ConfigDict) -> None:
    """Raises InputError where the network does not take the clips, or lacks the block whose attention is shown."""
    check_clips(model, config.eval.clips)
    if attention.exists(config):
        attention_maps.axial_block(model, config.eval.attention_block)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m cfaan_jax.evaluate",
                           "Scores features of an earlier evaluation again, without the network.")
    parser.add_argument("features", type=Path, help="features-*.npz in a workdir")
    parser.add_argument("--protocols", default="all",
                        help=f"all, or some, with commas between them, of {', '.join(protocols.PROTOCOLS)}")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    parser.add_argument("--corrections", help="corrections.csv or clean_tracks_test_info.mat, for revised protocols")
    flags = parser.parse_args(arguments)
    test_set = Search.load(flags.features)
    _, rows = score_rows(test_set, flags.protocols, flags.corrections, max_rank=max(RANKS), rerank=flags.rerank)
    show(test_set.about.line(), *score_table(rows))
