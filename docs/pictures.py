"""Makes docs/leaderboard.png and docs/audit.png: Chromium's pictures of the pages of real results.

    make demo
    vlbench run --suite field.yaml --out results/field --jobs 2
    python docs/pictures.py results/demo results/field

The audit is of MoTE in the first folder, that of the demo. Chromium is looked for under the name `chromium`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
AUDITED = "few_shot-synthetic-mote-16shot-seed0-test"


def main() -> None:
    """Makes both pages and their pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="results of make demo")
    parser.add_argument("field", type=Path, help="results of suite/field.yaml")
    folders = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pages = Path(name)
        audit, board = pages / "audit.html", pages / "leaderboard.html"
        record = folders.demo / "records" / f"{AUDITED}.json"
        subprocess.run(["vlbench", "audit", str(record), "--html", str(audit)], check=True)
        tables = [str(folders.demo), str(folders.field), "--html", str(board), "--allow_dirty"]
        subprocess.run(["vlbench", "leaderboard", *tables], check=True)
        photograph(board, DOCS / "leaderboard.png", 1500, 900)
        photograph(audit, DOCS / "audit.png", 1000, 610)


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """Writes what a browser shows of a page, from its top, as PNG of at most 256 colours.

    Args:
        page: HTML file.
        picture: PNG file to write.
        width: Width of the window in pixels.
        height: Height of the window in pixels.
    """
    with tempfile.TemporaryDirectory() as profile:
        taken = Path(profile) / "page.png"
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        shown = [f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={taken}"]
        subprocess.run([*browser, *shown, page.resolve().as_uri()], check=True, capture_output=True)
        Image.open(taken).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main()
