"""The command: frames as they are or cut anew, the same bytes after any interruption, errors with a remedy."""

import ast
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.runtime import lock
from data_prep import build_tfrecords
from data_prep.build_tfrecords import main
from data_prep.datasets import READERS, FrameFiles
from data_prep.redetect_link import packing
from data_prep.redetect_link.alignment import AlignmentSettings
from tests.data_prep.checks import Planted, check_refused, contents, decode, records

REPOSITORY = Path(__file__).parents[2]


def raw(root, out, *more) -> list[str]:
    return ["--dataset=dukev", f"--root={root}", f"--out={out}", "--detector=none", "--shard_size=2", *more]


def aligned(root, out, *more) -> list[str]:
    return ["--dataset=dukev", f"--root={root}", f"--out={out}", "--detector=hog", "--linker=largest",
            "--image_size=64x32", "--shard_size=2", *more]


def shards(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if ".tfrecord-" in path.name)


def stamps(folder: Path, pattern: str = "*") -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def test_without_a_detector_frames_stay_byte_for_byte(root, tmp_path, capsys):
    assert main(raw(root, tmp_path / "out")) == 0
    for record in records(tmp_path / "out"):
        assert list(record.frames) == [(root / source).read_bytes() for source in record.sources]
        assert record.rectangles.tolist() == record.boxes.tolist() == [[0, 96, 0, 48]] * 3
        assert record.actions == ("none",) * 3 and record.candidates == (0,) * 3
    assert [record.split for record in records(tmp_path / "out")] == ["train"] * 4 + ["query"] * 2 + ["gallery"] * 4
    assert load_manifest(tmp_path / "out")["aligned"] is False
    assert "train          4 tracklets         12 frames      2 identities" in capsys.readouterr().out


def test_other_image_files_become_jpegs(root):
    tracklet = build_tfrecords.DATASETS["dukev"](root).tracklets[0]
    blue = np.full((96, 48, 3), (200, 90, 20), np.uint8)  # blue comes first in OpenCV
    png = cv2.imencode(".png", blue)[1].tobytes()
    record = packing.Packer(95)(dataclasses.replace(tracklet, read=lambda index: png))
    image = decode(record.frames[0])[..., ::-1]
    assert record.frames[0][:2] == b"\xff\xd8" and np.abs(image.astype(int) - blue).max() < 4


def test_aligned_frames_have_the_size_asked_for_and_the_bytes_do_not_depend_on_the_workers(root, tmp_path):
    for workers in (1, 4):
        assert main(aligned(root, tmp_path / str(workers), f"--workers={workers}")) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "4")
    manifest = load_manifest(tmp_path / "1")
    assert manifest["aligned"] and manifest["detector"] == "hog" and manifest["linker"] == "largest"
    assert manifest["image_size"] == [64, 32] and manifest["settings"]["padding"] == AlignmentSettings().padding
    train = RecordSet.open(tmp_path / "1", "train")
    assert all(train.image_size(i) == (64, 32) for i in range(len(train)))


def test_the_summary_counts_what_the_records_hold_also_those_of_an_earlier_run(root, tmp_path, monkeypatch, capsys):
    detector = Planted([], [(2, 42, -8, 13)], [(2, 42, -8, 14)] * 2, border=18)  # frames of 96 x 48 pixels
    monkeypatch.setattr(build_tfrecords.detectors, "create", lambda *_, **__: detector)
    out = tmp_path / "out"
    assert main(aligned(root, out)) == 0
    (out / shards(out)[0]).unlink()
    (out / "summary.json").unlink()
    assert main(aligned(root, out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 30 and summary["frames_by_candidates"] == {"0": 10, "1": 10, "2+": 10}
    assert summary["fallbacks"] == 10 and sum(summary["frames_by_action"].values()) == 30
    assert list(summary["stages"]) == ["decode", "detect", "link", "cut", "encode"]
    assert sum(stage["share"] for stage in summary["stages"].values()) == pytest.approx(1, abs=1e-3)
    areas = []
    for record in records(out):
        assert record.candidates == (0, 1, 2)
        y0, y1, x0, x1 = record.rectangles.T
        areas += (1 - (y1 - y0) * (x1 - x0) / (64 * 32)).tolist()
    assert summary["padded_share"] == pytest.approx(np.mean(areas), abs=1e-4) and summary["padded_share"] > 0
    assert "none in 33.3% of the frames, one in 33.3%, more in 33.3%" in capsys.readouterr().out
    for text in ("", "{}", "[1]"):  # a damaged one is made again
        (out / "summary.json").write_text(text)
        assert main(aligned(root, out)) == 0
        assert json.loads((out / "summary.json").read_text())["frames_by_action"] == summary["frames_by_action"]


def test_a_finished_build_says_so_without_opening_the_data_set(root, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert main(raw(root, out)) == 0
    before = contents(out)
    capsys.readouterr()
    monkeypatch.setattr(build_tfrecords, "DATASETS", {"dukev": None})
    assert main(raw(root, out)) == 0
    assert "is complete already" in capsys.readouterr().out
    assert contents(out) == before


def test_a_data_set_that_was_moved_is_recognised_and_a_changed_one_refused(root, tmp_path, capsys):
    out, moved = tmp_path / "out", shutil.copytree(root, tmp_path / "moved")
    assert main(raw(root, out)) == 0
    before = stamps(out, "*.tfrecord-*")
    assert main(raw(moved, out)) == 0
    assert stamps(out, "*.tfrecord-*") == before
    next(moved.rglob("*F0003*.jpg")).unlink()
    (out / shards(out)[0]).unlink()
    assert main(raw(moved, out)) == 2
    assert "tracklets: 10 with checksum" in capsys.readouterr().err


def test_ctrl_c_leaves_whole_shards_and_the_same_command_resumes(root, tmp_path, monkeypatch, capsys):
    assert main(raw(root, tmp_path / "whole")) == 0
    read, calls = FrameFiles.__call__, []

    def interrupting(self, index):
        calls.append(index)
        if len(calls) == 20:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        return read(self, index)

    monkeypatch.setattr(FrameFiles, "__call__", interrupting)
    out = tmp_path / "out"
    assert main(raw(root, out, "--workers=1")) == 128 + signal.SIGINT
    assert "the same command resumes" in capsys.readouterr().err
    assert 1 <= len(shards(out)) < len(shards(tmp_path / "whole")) and not list(out.glob("*.unfinished"))
    check_refused("manifest.json is missing", RecordSet.open, out, "train")
    done = len(shards(out))
    assert main(raw(root, out)) == 0
    assert f"{done} of 5 shards exist already" in capsys.readouterr().out
    assert contents(out) == contents(tmp_path / "whole")


def test_a_disk_error_leaves_whole_shards_and_the_same_command_resumes(root, tmp_path):
    assert main(raw(root, tmp_path / "whole", "--shard_size=3")) == 0
    # Shards of three tracklets do not fit, those with the rest do.
    limit = min((tmp_path / "whole" / name).stat().st_size for name in shards(tmp_path / "whole")) + 1
    command = [sys.executable, "data_prep/build_tfrecords.py", *raw(root, tmp_path / "out", "--shard_size=3")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'out'}") and "File too large; raise the limit" in done.stderr
    assert list(contents(tmp_path / "out")) == ["unfinished.json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("flags", [raw, aligned])
@pytest.mark.parametrize("damage", ["cut short", "text", "empty", "missing"])
def test_a_frame_that_cannot_be_read_is_named_with_its_tracklet(root, tmp_path, capsys, monkeypatch, flags, damage):
    moved = shutil.copytree(root, tmp_path / "data")
    path = sorted((moved / "train" / "0002" / "0005").iterdir())[1]
    content = path.read_bytes()
    dataset = build_tfrecords.DATASETS["dukev"](moved)
    monkeypatch.setitem(build_tfrecords.DATASETS, "dukev", lambda root: dataset)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut short": content[:len(content) // 2], "text": b"hello", "empty": b""}[damage])
    assert main(flags(moved, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "tracklet train-0002-0005" in error and path.name in error and "again" in error
    assert shards(tmp_path / "out") == ["dukev-train.tfrecord-00000-of-00002"]
    path.write_bytes(content)
    assert main(flags(moved, tmp_path / "out")) == 0
    assert len(shards(tmp_path / "out")) == 5


def test_contact_sheets_can_be_added_later_and_leave_the_measured_times(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(aligned(root, out, "--preview=2")) == 0
    first = stamps(out / "preview")
    assert sorted(first) == ["gallery-gallery-0004-0010.png", "train-train-0001-0003.png"]
    before, summary = contents(out), json.loads((out / "summary.json").read_text())
    assert main(aligned(root, out, "--preview=3")) == 0
    sheets = stamps(out / "preview")
    assert len(sheets) == 3 and first.items() <= sheets.items() and contents(out) == before
    assert json.loads((out / "summary.json").read_text()) == summary and summary["frames_per_second"] > 0
    assert cv2.imread(str(out / "preview" / "train-train-0001-0003.png")).shape[0] > 3 * 200
    assert main(aligned(root, out, "--preview=500")) == 0
    capsys.readouterr()
    assert main(aligned(root, out, "--preview=500")) == 0
    assert "is complete already" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "said"), [
    (["--detector=hog"], "--linker is missing"),
    (["--detector=eyes", "--linker=largest"], "--detector=eyes"),
    (["--detector=hog", "--linker=guess"], "--linker=guess"),
    (["--detector=darknet:no.cfg,no.weights", "--linker=largest"], "no.cfg"),
    (["--detector=none", "--linker=largest"], "--linker=largest: has no effect with --detector=none"),
    (["--detector=none", "--preview=3"], "--preview=3: has no effect"),
    (["--detector=none", "--momentum=0.5"], "--momentum=0.5: has no effect"),
    (["--detector=none", "--seed=1"], "--seed=1: an option of synthetic and video, not of --dataset=dukev"),
    (["--detector=none", "--workers=0"], "--workers=0: must be at least 1"),
    (["--detector=none", "--jpeg_quality=101"], "--jpeg_quality=101: must be between 1 and 100"),
    (["--detector=none", "--shard_size=0"], "--shard_size=0"),
    (["--detector=none", "--export_images=images"], "layout cannot hold --dataset=dukev"),
    (["--detector=none", "--gpus_per_worker=1"], "--engine=ray only"),
    (["--detector=hog", "--linker=largest", "--detector_nms=-1"], "--detector_nms=-1.0: must be between 0 and 1"),
    (["--detector=hog", "--linker=largest", "--detector_confidence=nan"], "--detector_confidence=nan")])
def test_bad_flags_are_named_and_nothing_is_left(root, tmp_path, capsys, more, said):
    assert main(["--dataset=dukev", f"--root={root}", f"--out={tmp_path / 'out'}", *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_second_build_in_the_same_folder_is_refused_and_touches_nothing(root, tmp_path, capsys):
    out = tmp_path / "out"
    with lock.exclusive(out / ".building.lock", "packs records"):
        assert main(raw(root, out)) == 2
        assert f"process {os.getpid()} on" in capsys.readouterr().err and contents(out).keys() <= {".building.lock"}
    assert main(raw(root, out)) == 0


def test_files_of_a_detector_count_by_content_and_a_linker_by_its_checkpoints(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "ide" / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "x.weights").write_bytes(b"weights")
        (tmp_path / name / "ide" / "checkpoints" / "data").write_bytes(b"1")

    def known(name):
        return [build_tfrecords._identify(f"{kind}:{tmp_path / name / file}")
                for kind, file in (("darknet", "x.weights"), ("ide", "ide"))]

    assert known("a") == known("b")
    (tmp_path / "b" / "ide" / "metrics.csv").write_text("one more evaluation")
    assert known("a") == known("b")
    (tmp_path / "b" / "ide" / "checkpoints" / "data").write_bytes(b"2")
    (tmp_path / "b" / "x.weights").write_bytes(b"others")
    assert all(one != other for one, other in zip(known("a"), known("b"), strict=True))


@pytest.mark.parametrize("option", build_tfrecords.OPTIONS, ids=lambda option: option.flag)
def test_flags_of_data_sets_have_the_defaults_of_their_readers(option):
    for dataset in option.datasets:  # parsed, not imported: the video reader needs a package that others do not
        module, _, function = READERS[dataset].partition(":")
        parsed = ast.parse((REPOSITORY / f"{module.replace('.', '/')}.py").read_text())
        reader = next(node.args for node in parsed.body if isinstance(node, ast.FunctionDef) and node.name == function)
        defaults = dict(zip([argument.arg for argument in reader.args][::-1], reader.defaults[::-1], strict=False))
        defaults |= dict(zip([argument.arg for argument in reader.kwonlyargs], reader.kw_defaults, strict=True))
        assert ast.literal_eval(defaults[option.name]) == option.default


def test_the_script_runs_from_anywhere_and_explains_itself(tmp_path):
    script = REPOSITORY / "data_prep/build_tfrecords.py"
    text = subprocess.check_output([sys.executable, script, "--help"], cwd=tmp_path, text=True)
    for group in ("data set:", "records:", "detector and linker:", "Re-Detect and Link:"):
        assert f"\n{group}\n" in text
