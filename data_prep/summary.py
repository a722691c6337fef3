"""What Re-Detect and Link did to a data set, counted in its finished records."""

from pathlib import Path

import numpy as np

from cfaan_jax.data.index import load_index
from cfaan_jax.data.manifest import load_manifest

SHIFTS = ("left", "right", "up", "down")


def summarise(out: Path) -> dict:
    """Returns the counts of tracklets; for aligned records also frames by candidates and action, and padding."""
    manifest = load_manifest(out)
    indexes = [load_index(out, split) for split in manifest["counts"]]
    summary = {name: manifest[name] for name in ("dataset", "note", "aligned", "counts")}
    if not manifest["aligned"]:
        return summary
    rectangles = np.concatenate([index.rectangles for index in indexes]).astype(np.int64)
    pixels = np.concatenate([index.image_sizes for index in indexes]).astype(np.int64).prod(axis=1)
    real = (rectangles[:, 1] - rectangles[:, 0]) * (rectangles[:, 3] - rectangles[:, 2])
    summary |= {"frames": len(real), "padded_share": round(float(1 - (real / pixels).mean()), 4)}
    if manifest["detector"] == "none":  # aligned before
        return summary
    candidates = np.concatenate([index.candidates for index in indexes])
    actions = np.concatenate([index.action_names[index.actions] for index in indexes])
    names, numbers = np.unique(actions, return_counts=True)
    return summary | {
        "frames_by_candidates": {"0": int((candidates == 0).sum()), "1": int((candidates == 1).sum()),
                                 "2+": int((candidates > 1).sum())},
        "frames_by_action": dict(zip(names.tolist(), numbers.tolist(), strict=True)),
        "fallbacks": int(np.char.startswith(actions, "fallback").sum()),
        "shifted": {way: int(np.char.endswith(actions, f"|shift_{way}").sum()) for way in SHIFTS}}


def show(summary: dict) -> None:
    """Prints a summary, with the speed of the run if it holds one."""
    for split, count in summary["counts"].items():
        print(f"{split:8} {count['tracklets']:>7,} tracklets  {count['frames']:>9,} frames  "
              f"{count['identities']:>5,} identities")
    if summary["note"]:
        print(f"note: {summary['note']}")
    if "frames" in summary:
        print(f"padding {summary['padded_share']:.1%} of the pixels")
    if "frames_by_candidates" in summary:
        candidates, total = summary["frames_by_candidates"], summary["frames"]
        print(f"persons detected in a frame: none in {candidates['0'] / total:.1%} of the frames, one in "
              f"{candidates['1'] / total:.1%}, more in {candidates['2+'] / total:.1%}")
        shifted = ", ".join(f"{way} {count / total:.1%}" for way, count in summary["shifted"].items())
        print(f"fallback {summary['fallbacks'] / total:.1%}; shifted {shifted}")
    if summary.get("frames_per_second"):
        print(f"{summary['frames_per_second']:,.1f} frames per second")
    if summary.get("stages"):
        print("frames per second of one thread by stage: " + ", ".join(
            f"{name} {stage['frames_per_second']:,.0f} ({stage['share']:.0%} of the work)"
            for name, stage in summary["stages"].items()))
