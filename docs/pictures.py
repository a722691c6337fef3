"""Makes the pictures of the documentation from a finished quickstart, whose pedestrians are drawn by code.

    python docs/pictures.py runs/quickstart
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image

from cfaan_jax.metrics.search import Search
from cfaan_jax.report import curves

PICTURES = Path(__file__).parent / "pictures"
_WIDTH = 900
_FIRST_LISTS = 0.365  # of the height of a picture of six ranked lists: its heading and two of them


def main(run: Path) -> None:
    """Writes preview.webp, ranked.webp and cmc.svg."""
    report, sheets = run / "cfaan-aligned/report", sorted(run.glob("records/aligned/preview/query-*.png"))
    _small(Image.open(sheets[0]), "preview")
    ranked = Image.open(report / "ranked-typical-last-all_sampled.png")
    _small(ranked.crop((0, 0, ranked.width, round(_FIRST_LISTS * ranked.height))), "ranked")
    found = Search.load(run / "cfaan-aligned/features-last-all_sampled.npz")
    scores = found.score(("mars", "mars_revised"), run / "synthetic/corrections.csv")
    curves.cmc(scores, PICTURES / "cmc.svg")


def _small(picture: Image.Image, name: str) -> None:
    height = round(picture.height * _WIDTH / picture.width)
    small = picture.convert("RGB").resize((_WIDTH, height), Image.Resampling.LANCZOS)
    small.save(PICTURES / f"{name}.webp", quality=75)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the finished quickstart")
    main(parser.parse_args().run)
