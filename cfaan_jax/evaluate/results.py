"""Scores of an evaluation as rows of results.json and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.intervals import intervals
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.summary import ranked_by
from cfaan_jax.runtime.text_tables import TableContent

RANKS = (1, 5, 10, 20)


def score_rows(search: Search, names: str | Sequence[str], corrections: str | Path | None, max_rank: int,
               rerank: bool) -> tuple[dict[str, Score], list[dict]]:
    """Scores under protocols; and rows of results.json: theirs and, if asked for, those after re-ranking."""
    scores = search.score(names, corrections, max_rank)
    rows = result_rows(search, scores, corrections)
    if rerank:
        rows += result_rows(search, search.score(names, corrections, max_rank, reranked=True), corrections, True)
    return scores, rows


def result_rows(search: Search, scores: Mapping[str, Score], corrections: str | Path | None,
                reranked: bool = False) -> list[dict]:
    """Rows of results.json; metrics are shares between 0 and 1, intervals are bootstrap intervals of 95 %."""
    about, q_pids = search.about, search.pids[:search.num_queries]
    return [{"model": "untrained" if about.weights == "untrained" else about.model, "network": about.model,
             "aligned": about.aligned, "protocol": name, "distance": about.distance, "reranked": reranked,
             "mAP": score.mAP, "mINP": score.mINP,
             **{f"rank{k}": float(score.cmc[min(k, len(score.cmc)) - 1]) for k in RANKS},
             **{f"{metric}_interval": list(interval) for metric, interval in intervals(score, q_pids).items()},
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
        metrics = [f"{100 * row[name]:.1f}" for name in ("mINP", *(f"rank{k}" for k in RANKS))]
        lines.append([row["protocol"] + ranked_by(row["distance"], row["reranked"]), f"{100 * row['mAP']:.1f}",
                      f"{100 * low:.1f} to {100 * high:.1f}", *metrics, f"{row['gallery_size']:,}",
                      f"{row['num_valid']:,} of {row['num_queries']:,}"])
    files = dict.fromkeys(row["corrections"] for row in rows if row["corrections"])
    return TableContent(headers, lines, [f"Revised protocols use the identities in {file}." for file in files])
