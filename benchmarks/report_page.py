"""How long the page takes: rendered from 2620 generated utterances, 40 differing, and painted by Chromium.

    python benchmarks/report_page.py

Needs Debian's Chromium (apt-get install chromium). The targets: rendered in 5 s, 6 MB, first paint under 1 s.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from record import ROOT, record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from generated_reports import big

from whisper_speedup.measure.environment import fingerprint
from whisper_speedup.report import render


def main() -> None:
    """Generate, render, load `--rounds` times, write benchmarks/results/report-DATE-cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    out, here = arguments.out.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        big(Path(folder))
        seconds = []
        for _ in range(arguments.rounds):
            begin = time.perf_counter()
            page = render("example").resolve()
            seconds.append(time.perf_counter() - begin)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            loads = [load(browser, page) for _ in range(arguments.rounds)]
            version = browser.version
            browser.close()
        size = page.stat().st_size
        os.chdir(here)
    row = {
        "utterances": 2620, "differing": 40, "bytes": size, "render_s": statistics.median(seconds),
        "render_first_s": seconds[0], **{key: statistics.median(one[key] for one in loads) for key in loads[0]},
        "rounds": arguments.rounds, "load_1min": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    path = record("report", "cpu", out, environment=fingerprint() | {"chromium": version}, rows=[row])
    for key, value in row.items():
        print(f"{key:24} {value:,.3f}" if isinstance(value, float) else f"{key:24} {value:,}")
    print(path)


def load(browser: Browser, path: Path) -> dict[str, Any]:
    """Milliseconds from navigation to first paint and to loaded, and of one search and one sort over all rows."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(path.as_uri())
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    timing = page.evaluate(
        "() => { const [navigation] = performance.getEntriesByType('navigation'); return {"
        " first_paint_ms: performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        " loaded_ms: navigation.loadEventEnd } }"
    )
    page.locator(".scroll.tall").scroll_into_view_if_needed()
    # From the input to the frame after it is painted.
    after = "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    timing["search_ms"] = page.evaluate(
        "async () => { const box = document.querySelector('#row-search'); const begin = performance.now();"
        f" box.value = 'supper'; box.dispatchEvent(new Event('input')); {after}; return performance.now() - begin }}"
    )
    timing["sort_ms"] = page.evaluate(
        "async () => { const button = document.querySelector('.utterances th:nth-child(4) button');"
        " document.querySelector('#row-search').value = '';"
        " document.querySelector('#row-search').dispatchEvent(new Event('input'));"
        f" {after}; const begin = performance.now(); button.click(); {after}; return performance.now() - begin }}"
    )
    page.close()
    return timing


if __name__ == "__main__":
    main()
