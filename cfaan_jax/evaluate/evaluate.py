"""One feature per tracklet, then every protocol asked for, as figures, tables and pictures.

`evaluate` is what `--mode=evaluate` and the end of a training run call. It leaves in the workdir: results.json, report/
and the features, from which `python -m cfaan_jax.evaluate FEATURES.npz` scores again without the network.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Sharding
from ml_collections import ConfigDict

from cfaan_jax.data import splits
from cfaan_jax.data.augment import prepare
from cfaan_jax.data.loader import ClipBatches
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy.exported import ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.intervals import intervals
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.models import VideoReID
from cfaan_jax.report import attention, evaluation
from cfaan_jax.report.frames import RawQueries
from cfaan_jax.report.summary import ranked_by, read_rows
from cfaan_jax.runtime import distributed, lock, sharding
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.progress import Progress
from cfaan_jax.runtime.text_tables import TableContent, show

RANKS = (1, 5, 10, 20)


@lru_cache(maxsize=4)
def compiled_features(graphdef: nnx.GraphDef, structure: jax.tree_util.PyTreeDef, where: Sharding | None):
    """Features of one batch: (arrays of the network, frames, rectangles) -> [B, D]; the same for any weights.

    The arrays come as a plain list, because a network's own containers cost 20 ms for each batch.
    """

    @partial(jax.jit, out_shardings=where)
    def features(arrays: list[jax.Array], frames: jax.Array, rectangles: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, jax.tree.unflatten(structure, arrays))
        model.eval()
        clips, cells = prepare(frames, rectangles, model.stride)
        return model.clip_features(clips, cells)

    return features


def features_of(model: VideoReID | ExportedNetwork,
                where: Sharding | None = None) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The compiled network: (frames uint8 [B, T, H, W, 3], rectangles int32 [B, T, 4]) -> clip features [B, D].

    Args:
        model: is not changed.
        where: its weights and the features lie; None: where the weights are.
    """
    if not isinstance(model, nnx.Module):
        return model
    graphdef, state = nnx.split(model)
    arrays, structure = jax.tree.flatten(state if where is None else sharding.put_on_mesh(state, where))
    return partial(compiled_features(graphdef, structure, where), arrays)


class ClipFeatures(NamedTuple):
    """Features of a batch of clips, before `tracklet_features`.

    Attributes:
        tracklets: int64 [B], the place of each clip's tracklet; -1 marks padding.
        features: float32 [B, D].
        frames: of each clip.
    """

    tracklets: np.ndarray
    features: np.ndarray
    frames: int


def of_clips(model: VideoReID | ExportedNetwork, records: RecordSet, *, clips: str, clip_length: int,
             image_size: tuple[int, int], batch_size: int, workers: int = 2) -> Iterator[ClipFeatures]:
    """Features of the clips of tracklets, batch by batch.

    Clips of many tracklets share a batch, which is divided over all devices; all batches of clips of one length have
    one shape. Every process gets all.

    Args:
        model: is not changed.
        records: the tracklets.
        clips: which clips stand for a tracklet (`data.clips.MODES`).
        clip_length: T.
        image_size: (H, W) that the network sees.
        batch_size: clips in a batch, a multiple of the number of devices.
        workers: reading threads.
    Raises:
        InputError: a batch that the devices do not divide, clips shorter than the network takes.
    """
    check_clips(model, clips)
    mesh = sharding.data_mesh()
    batch_sharding = sharding.batch_sharding(mesh, batch_size)
    network = features_of(model, sharding.replicated(mesh))
    batches = ClipBatches(records, clips, clip_length, image_size, batch_size, workers,
                          sharding.local_rows(batch_sharding, batch_size))
    with Progress(f"features of {len(records)} tracklets", len(batches)) as progress:
        running = None
        for batch in batches:
            inputs = sharding.put_on_mesh((batch["frames"], batch["rectangles"]), batch_sharding)
            features = network(*inputs)
            if running is not None:  # take a batch's features only when the device has the next batch to work on
                yield _fetched(*running)
                progress.advance()
            running = batch["tracklet"], features, batch["frames"].shape[1]
        yield _fetched(*running)
        progress.advance()


def _fetched(tracklets: np.ndarray, features: jax.Array, frames: int) -> ClipFeatures:
    return ClipFeatures(tracklets, np.asarray(features), frames)


def extract(model: VideoReID | ExportedNetwork, records: RecordSet, **how) -> np.ndarray:
    """Evaluation features of tracklets: the mean over each one's clips (paper, section 4.1), not normalised.

    Clips count by their frames, which differ where the last one is shorter.

    Args:
        model, records: see `of_clips`.
        **how: as for `of_clips`.
    Returns:
        float32 [N, D], in the order of the records.
    Raises:
        InputError: as `of_clips`, or a feature that is not finite.
    """
    mean = _TrackletMean(len(records))
    for batch in of_clips(model, records, **how):
        mean.add(batch)
    found = np.asarray(model.tracklet_features(mean.result()))
    check_finite(found, records.names)
    return found


def check_finite(features: np.ndarray, names: Sequence[str]) -> None:
    """Raises InputError for features [N, D] that are not finite; `names` are those of their tracklets."""
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise InputError(f"the feature of tracklet {names[int(broken.argmax())]} is not finite; training went astray, "
                         "or these are not the weights of this network")


class _TrackletMean:
    """Mean over the clips of each of N tracklets, summed in float64; clips count by their frames."""

    def __init__(self, tracklets: int):
        self._sums = np.zeros((tracklets, 0))
        self._counts = np.zeros(tracklets, np.int64)

    def add(self, clips: ClipFeatures) -> None:
        real = clips.tracklets >= 0
        if self._sums.shape[1] == 0:
            self._sums = np.zeros((len(self._counts), clips.features.shape[1]))
        np.add.at(self._sums, clips.tracklets[real], clips.frames * clips.features.astype(np.float64)[real])
        np.add.at(self._counts, clips.tracklets[real], clips.frames)

    def result(self) -> np.ndarray:
        return (self._sums / self._counts[:, None]).astype(np.float32)


def test_records(config: ConfigDict) -> list[RecordSet]:
    """Query and gallery of `config.data.records`; InputError if one is missing or damaged."""
    return [splits.open_split(config.data.records, split, config.data) for split in ("query", "gallery")]


def check(config: ConfigDict, workdir: str | Path) -> None:
    """Raises InputError for what an evaluation needs and lacks, so that it shows before hours of work, not after."""
    results_of(workdir)
    protocols.resolve(config.eval.protocols)
    query, _ = test_records(config)
    if config.eval.raw_records:
        RawQueries(config.eval.raw_records, query.names)


def check_clips(model: nnx.Module, clips: str) -> None:
    """Raises InputError for a way of taking clips that gives some which the network does not take."""
    if clips == "dense_cut" and not model.any_length:
        raise InputError("clips=dense_cut gives shorter clips, too, which this network does not take; choose dense or "
                         "all_continuous")


def check_network(model: nnx.Module, config: ConfigDict) -> None:
    """Raises InputError where an evaluation would fail: by its clips, or by the block whose attention it shows."""
    check_clips(model, config.eval.clips)
    if attention.exists(config):
        model.axial_block(config.eval.attention_block)


def name_of(settings: ConfigDict) -> str:
    """What a config's network is called in tables: its name, and its head where that is not its own."""
    return settings.name if settings.get("head", "own") == "own" else f"{settings.name}, {settings.head} head"


def search(model: nnx.Module, config: ConfigDict, weights: str, clips: str) -> Search:
    """Features and labels of all test tracklets in `config.data.records`.

    Args:
        model: the network.
        config: of the experiment.
        weights: which weights the model holds, see `evaluate`.
        clips: see `extract`.
    """
    manifest = load_manifest(config.data.records)
    parts = test_records(config)
    left_out = sum(manifest["counts"][part.split]["tracklets"] - len(part) for part in parts)
    features = [extract(model, part, clips=clips, clip_length=config.data.clip_length, batch_size=config.eval.batch,
                        image_size=tuple(config.data.image_size), workers=config.data.workers) for part in parts]
    labels = {name: np.concatenate([getattr(part, name) for part in parts])
              for name in ("names", "track_ids", "pids", "camids")}
    about = About(manifest["dataset"], manifest["note"], manifest["aligned"], model=name_of(config.model),
                  seed=config.seed, weights=weights, clips=clips, distance=config.eval.distance, left_out=left_out)
    return Search(np.concatenate(features), len(parts[0]), **labels, about=about)


def evaluate(model: nnx.Module, config: ConfigDict, workdir: str | Path, which: str) -> list[dict] | None:
    """Scores a network on the test tracklets, prints the table, and writes results.json, features and report/.

    Two evaluations in one folder at a time are refused.

    Args:
        model: the network, with the weights named by `which`.
        config: `config.eval` says clips, protocols, corrections, max_rank, batch and what the report shows.
        workdir: where to write.
        which: "last", "best", "untrained" or "pretrained", see `experiment.weights_of`.
    Returns:
        The new rows of results.json, one a protocol, and one more with re-ranking if that is asked for; each takes the
        place of an older one with the same weights, protocol, clips, distance and ranking. None in other processes
        than the first, which alone scores and writes.
    """
    check(config, workdir)
    check_network(model, config)
    with distributed.exclusive(Path(workdir) / lock.EVALUATION, "evaluates"):
        found = search(model, config, which, config.eval.clips)
        return distributed.run_on_first_process(lambda: _write(found, model, config, Path(workdir)))


def _write(found: Search, model: nnx.Module, config: ConfigDict, workdir: Path) -> list[dict]:
    settings, which = config.eval, found.about.weights
    workdir.mkdir(parents=True, exist_ok=True)
    found.save(workdir / f"features-{which}-{settings.clips}.npz")
    scores, rows = _score(found, settings.protocols, settings.corrections, settings.max_rank, settings.rerank)
    table = score_table(rows)
    page = evaluation.write(evaluation.Evaluation(found, scores, table, model, config), workdir)
    _merge(workdir, rows)  # last: where they are, training takes the evaluation for finished
    show(found.about.line(), *table)
    print(f"report: {page}")
    return rows


def _score(found: Search, names: str | Sequence[str], corrections: str | Path | None, max_rank: int,
           rerank: bool) -> tuple[dict[str, Score], list[dict]]:
    """The scores, and rows of results.json: theirs and, if asked for, those after re-ranking."""
    scores = found.score(names, corrections, max_rank)
    rows = results(found, scores, corrections)
    if rerank:
        rows += results(found, found.score(names, corrections, max_rank, reranked=True), corrections, reranked=True)
    return scores, rows


def results(found: Search, scores: Mapping[str, Score], corrections: str | Path | None,
            reranked: bool = False) -> list[dict]:
    """Rows of results.json; figures are shares between 0 and 1, intervals hold 95 % of the draws."""
    about, q_pids = found.about, found.pids[:found.num_queries]
    return [{"model": "untrained" if about.weights == "untrained" else about.model, "network": about.model,
             "aligned": about.aligned, "protocol": name, "distance": about.distance, "reranked": reranked,
             "mAP": score.mAP, "mINP": score.mINP,
             **{f"rank{k}": float(score.cmc[min(k, len(score.cmc)) - 1]) for k in RANKS},
             **{f"{figure}_interval": list(interval) for figure, interval in intervals(score, q_pids).items()},
             "gallery_size": score.gallery_size, "num_valid": score.num_valid, "num_queries": score.num_queries,
             "left_out": about.left_out, "seed": about.seed, "weights": about.weights, "clips": about.clips,
             "dataset": about.dataset, "note": about.note,
             "corrections": str(corrections) if corrections and protocols.get(name).revised else None}
            for name, score in scores.items()]


def score_table(rows: Sequence[dict]) -> TableContent:
    """The table of one evaluation, from its rows of results.json."""
    headers = ["protocol", "mAP", "95 % interval", "mINP", *(f"rank-{k}" for k in RANKS), "gallery", "valid queries"]
    lines = []
    for row in rows:
        low, high = row["mAP_interval"]
        figures = [f"{100 * row[name]:.1f}" for name in ("mINP", *(f"rank{k}" for k in RANKS))]
        lines.append([row["protocol"] + ranked_by(row["distance"], row["reranked"]), f"{100 * row['mAP']:.1f}",
                      f"{100 * low:.1f} to {100 * high:.1f}", *figures, f"{row['gallery_size']:,}",
                      f"{row['num_valid']:,} of {row['num_queries']:,}"])
    files = dict.fromkeys(row["corrections"] for row in rows if row["corrections"])
    return TableContent(headers, lines, [f"Revised protocols use the identities in {file}." for file in files])


def results_of(workdir: str | Path) -> list[dict]:
    """The rows of a workdir's results.json, none where there is none yet; InputError for one that is damaged."""
    path = Path(workdir) / "results.json"
    return read_rows(path) if path.exists() else []


def _merge(workdir: Path, rows: Sequence[dict]) -> None:
    older = results_of(workdir)
    merged = {tuple(row[name] for name in ("weights", "protocol", "clips", "distance", "reranked")): row
              for row in (*older, *rows)}
    write_atomic(workdir / "results.json", json.dumps(list(merged.values()), indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.evaluate",
                                     description="Scores features of an earlier evaluation again, without the network.")
    parser.add_argument("features", type=Path, help="features-*.npz in a workdir")
    parser.add_argument("--protocols", default="all",
                        help=f"all, or some, with commas between them, of {', '.join(protocols.PROTOCOLS)}")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    parser.add_argument("--corrections", help="corrections.csv or clean_tracks_test_info.mat, for revised protocols")
    flags = parser.parse_args(arguments)
    found = Search.load(flags.features)
    _, rows = _score(found, flags.protocols, flags.corrections, max_rank=max(RANKS), rerank=flags.rerank)
    show(found.about.line(), *score_table(rows))
