"""Files beside the shards that are derived from them: counts, the description for TensorFlow Datasets, pictures."""

import numpy as np

from cfaan_jax.data.index import Index

DATASET_INFO = "dataset_info.json"  # of TensorFlow Datasets; its "splits" are entries of `tensorflow_split`
SUMMARY = "summary.json"  # counts of what packing did
PREVIEWS = "preview"  # folder of contact sheets


def counts(index: Index) -> dict[str, int]:
    """Numbers of tracklets, frames and identities of a split; junk and distractors are not identities."""
    return {"tracklets": len(index.names), "frames": int(index.frame_start[-1]),
            "identities": len(np.unique(index.pids[index.pids > 0]))}


def tensorflow_split(split: str, index: Index) -> dict:
    """The entry of a split in `DATASET_INFO`."""
    lengths = np.bincount(index.shards, minlength=len(index.shard_names))
    return {"name": split, "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "shardLengths": [str(length) for length in lengths.tolist()],
            "numBytes": str(int(index.shard_sizes.sum()))}


def contact_sheet(split: str, name: str) -> str:
    """The file in `PREVIEWS` that shows a tracklet."""
    return f"{split}-{name}.png"
