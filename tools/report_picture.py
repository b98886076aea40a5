"""The first screen of a report as a picture: `report_picture.py reports/bundled.html docs/report.png`.

Needs Playwright (in the lock) and Debian's Chromium (`apt-get install chromium`). 64 colours, so that it stays small.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT, SCALE = 1240, 650, 1.5


def main(page_file: str, picture: str) -> int:
    """0, or 2 and a sentence without a browser."""
    browser = shutil.which("chromium")
    if browser is None:
        print("error: there is no chromium: apt-get install chromium.", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        # Debian's Chromium refuses its own sandbox to root; the page is ours and fetches nothing.
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=SCALE)
        page.goto(Path(page_file).resolve().as_uri())
        png = page.screenshot()
        chromium.close()
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    image.save(picture, optimize=True)
    print(f"{picture}: {Path(picture).stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
