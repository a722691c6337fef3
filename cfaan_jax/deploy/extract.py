"""Features of a folder of tracklets as files, and a search among them: `--mode=extract` and `--mode=search`."""

import csv
import hashlib
import io
import json
import shutil
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax import weights
from cfaan_jax.data import splits
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.storage import is_address
from cfaan_jax.data.tracklet_record import SPLITS
from cfaan_jax.deploy.feature_extractor import FeatureExtractor, Features
from cfaan_jax.errors import InputError
from cfaan_jax.metrics.distances import DISTANCES, normalize_for, pairwise
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.files import atomic_folder, parse_json
from cfaan_jax.runtime.text_tables import TableContent

FEATURES, IDS, ABOUT = "features.npy", "ids.csv", "about.json"
PARQUET = "features.parquet"  # ids, features and what is said about them in one file
FORMATS = ("npy", "parquet")
_FILES = (FEATURES, IDS, ABOUT, PARQUET)
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


class Extracted(NamedTuple):
    """What a folder that `extract` wrote holds.

    Attributes:
        ids: of N tracklets.
        features: float32 `[N, D]`, not normalised.
        about: "network", "weights", their "fingerprint", "clips" and "distance".
    """

    ids: list[str]
    features: np.ndarray
    about: dict


def extract(model: VideoReID, config: ConfigDict, source: str | Path, folder: str | Path, which: str,
            form: str = "npy") -> Path:
    """Writes the features of all tracklets in a folder: `features.npy`, `ids.csv` (row, id) and `about.json`.

    Several processes share the work; the first one alone writes.

    Args:
        model: the network.
        config: with which it was trained; `config.eval` says clips and batch.
        source: a record set, or a folder with one folder of images for each tracklet; images go by their names.
        folder: to write; it takes the place of an older one.
        which: what the weights are called.
        form: one of `FORMATS`; "parquet" writes `features.parquet` in the place of the three files.

    Raises:
        InputError: no tracklets there, an image that cannot be read, something else in the folder to write, or pyarrow
            is needed and not installed.
    """
    folder = Path(folder)
    check_out(folder)
    if form == "parquet":
        _parquet()  # before the work, not after it
    with distributed.exclusive(lock.path_for(folder), "extracts"):
        return _extract(model, config, source, folder, which, form)


def _extract(model: VideoReID, config: ConfigDict, source: str | Path, folder: Path, which: str, form: str) -> Path:
    extractor = FeatureExtractor(
        model, clip_length=config.data.clip_length, image_size=config.data.image_size, clips=config.eval.clips,
        batch_size=config.eval.batch, workers=config.data.workers)
    parts = [extractor(each) for each in _tracklets(source, config.data)]
    found = Features([name for part in parts for name in part.ids], np.concatenate([part.features for part in parts]))
    about = dict(network=config.model.name, weights=which, fingerprint=_fingerprint(model), clips=config.eval.clips,
                 distance=config.eval.distance)
    distributed.run_on_first_process(lambda: write(folder, Extracted(found.ids, found.features, about), form))
    return folder


def check_out(folder: Path) -> None:
    """InputError for a folder that holds anything else than extracted features, which writing them would delete."""
    if not folder.name:
        raise InputError(f"--out={folder}: give the name of a new folder")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir() or there - set(_FILES):
        raise InputError(f"--out={folder}: {'is a file' if not there else f'holds {min(there - set(_FILES))}'}, which "
                         "is no part of extracted features; name a new folder, it is written as a whole")


def write(folder: Path, found: Extracted, form: str = "npy") -> None:
    """Writes a folder that `read` reads, in one of `FORMATS`; it takes the place of an older one.

    Other files that lie there stay.
    """
    files = _as_parquet(found) if form == "parquet" else _as_npy(found)
    with atomic_folder(folder) as unfinished:
        for other in (each for each in (folder.iterdir() if folder.is_dir() else ()) if each.name not in _FILES):
            (shutil.copytree if other.is_dir() else shutil.copy2)(other, unfinished / other.name)
        for name, content in files.items():
            (unfinished / name).write_bytes(content)


def format_of(folder: Path) -> str | None:
    """In which of `FORMATS` a folder holds features; None if it holds none."""
    if (folder / PARQUET).exists():
        return "parquet"
    return "npy" if (folder / FEATURES).exists() and (folder / IDS).exists() else None


def _as_npy(found: Extracted) -> dict[str, bytes | memoryview]:
    # NumPy's own way to a file does not notice when the disk is full at its end.
    features, table = io.BytesIO(), io.StringIO()
    np.save(features, found.features)
    csv.writer(table, lineterminator="\n").writerows([("row", "id"), *enumerate(found.ids)])
    return {FEATURES: features.getbuffer(), IDS: table.getvalue().encode(),
            ABOUT: (json.dumps(found.about, indent=2) + "\n").encode()}


def _as_parquet(found: Extracted) -> dict[str, memoryview]:
    arrow, parquet = _parquet()
    rows = arrow.FixedSizeListArray.from_arrays(arrow.array(found.features.ravel()), found.features.shape[1])
    table = arrow.table({"id": arrow.array(found.ids, arrow.string()), "feature": rows}, metadata={
        "about": json.dumps(found.about)})
    content = io.BytesIO()
    parquet.write_table(table, content)
    return {PARQUET: content.getbuffer()}


def _parquet():
    """The modules that write and read Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError("features as Parquet need pyarrow: pip install pyarrow") from None
    return pyarrow, parquet


def _fingerprint(model: VideoReID) -> str:
    """Tells weights from others."""
    digest = hashlib.sha256()
    for name, array in sorted(weights.to_torch(model).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _tracklets(source: str | Path, data: ConfigDict) -> list[RecordSet | dict[str, list[Path]]]:
    """What a `FeatureExtractor` takes, for each split of records, or once for folders of images."""
    if is_address(source) or (Path(source) / MANIFEST).exists():
        counts = load_manifest(source)["counts"]
        if not counts:
            raise InputError(f"{source}: these records hold no tracklets; build some, or name another folder")
        return [splits.open_split(source, split, data) for split in SPLITS if counts.get(split)]
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: there is no such folder; name records, or a folder with a folder of images for "
                         "each tracklet")
    tracklets = {each.name: sorted(path for path in each.iterdir() if path.suffix.lower() in _IMAGES)
                 for each in sorted(source.iterdir()) if each.is_dir()}
    if strange := [name for name in tracklets if {"Cc", "Cs"} & set(map(unicodedata.category, name))]:
        raise InputError(f"{source}: holds a folder {strange[0]!r}; rename it, ids are UTF-8 without control codes")
    if not (tracklets := {name: paths for name, paths in tracklets.items() if paths}):
        raise InputError(f"{source}: holds neither records nor folders of images ({', '.join(_IMAGES)}); put the "
                         "images of each tracklet into a folder of its own there")
    return [tracklets]


def read(folder: str | Path) -> Extracted:
    """Reads a folder that `extract` wrote; InputError if it is none, or a damaged one."""
    folder = Path(folder)
    try:
        ids, features, about = (_from_parquet if format_of(folder) == "parquet" else _from_npy)(folder)
        if features.ndim != 2 or len(features) != len(ids) or about["distance"] not in DISTANCES:
            raise ValueError(f"features of shape {features.shape} for {len(ids)} ids")
        if features.dtype.kind != "f" or not features.shape[1] or not np.isfinite(features).all():
            raise ValueError(f"features of {features.dtype} {list(features.shape)}, which must be finite numbers")
    # Damaged arrays and tables have errors of many kinds.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, csv.Error) as error:
        raise InputError(f"{folder}: no readable features ({error}); --mode=extract writes them") from error
    return Extracted(ids, features, about)


def _from_npy(folder: Path) -> Extracted:
    features = np.load(folder / FEATURES, allow_pickle=False)
    with (folder / IDS).open(newline="", encoding="utf-8") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    return Extracted(ids, features, parse_json((folder / ABOUT).read_text()))


def _from_parquet(folder: Path) -> Extracted:
    arrow, parquet = _parquet()
    try:
        table = parquet.read_table(folder / PARQUET, columns=["id", "feature"])
        rows, kind = table["feature"].combine_chunks(), table.schema.field("feature").type
        if not arrow.types.is_fixed_size_list(kind) or kind.value_type != arrow.float32() or rows.null_count:
            raise ValueError(f"features of type {kind}")
        features = rows.flatten().to_numpy().reshape(len(rows), kind.list_size)
        return Extracted(table["id"].to_pylist(), features, parse_json(table.schema.metadata[b"about"]))
    except arrow.ArrowException as error:
        raise ValueError(error) from error


def search(query: Extracted, gallery: Extracted, count: int) -> TableContent:
    """The nearest tracklets of a gallery for each query, as a table; all ids count, the query's own too.

    Raises:
        InputError: features of two kinds, which cannot be compared.
    """
    if query.about != gallery.about or query.features.shape[1] != gallery.features.shape[1]:
        raise InputError(f"the query's features come from {query.about}, the gallery's from {gallery.about}; extract "
                         "both with one network")
    distance = query.about["distance"]
    known, rows = normalize_for(distance, gallery.features), []
    for name, feature in zip(query.ids, normalize_for(distance, query.features), strict=True):
        distances = pairwise(distance, feature[None], known)[0]
        nearest = np.argsort(distances, kind="stable")[:count]
        figures = -distances[nearest] if distance == "cosine" else distances[nearest]
        rows += [[name, str(rank), gallery.ids[row], f"{figure:.4f}"]
                 for rank, (row, figure) in enumerate(zip(nearest, figures, strict=True), start=1)]
    measure = "cosine" if distance == "cosine" else "squared distance"
    return TableContent(["query", "rank", "tracklet", measure], rows, [])
