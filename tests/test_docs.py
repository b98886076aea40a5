"""README and docs/: links lead somewhere, what they name exists, and README's number is the published one."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from whisper_speedup.params.profile import Profile

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.split("#")[0] for link in links if not link.startswith(("https://", "#"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named - targets == set(), page.name


def test_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60
    assert (ROOT / "docs" / "report.png").stat().st_size < 200_000


def measured_here() -> bool:
    """Whether a run here has put its own numbers in the place of the published ones, or there is no Git to know by."""
    changed = git("status", "--porcelain", "--", "README.md", "reports/bundled/metrics.json")
    return not git("ls-tree", "HEAD") or changed == ["M", "reports/bundled/metrics.json"]


def git(*arguments: str) -> list[str]:
    """The words that git prints of this folder, none where it knows nothing of it."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


@pytest.mark.skipif(measured_here(), reason="reports/bundled is of a run on this machine")
def test_readme_has_the_published_number() -> None:
    metrics = json.loads((ROOT / "reports" / "bundled" / "metrics.json").read_text())
    speed, low, high = (metrics[f"fused.{key}"] for key in ("speedup", "speedup_low", "speedup_high"))
    said = f"{speed:.2f} times as fast as the baseline (95% interval {low:.2f} to {high:.2f})"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert said in readme, f"reports/bundled says {said}"


def test_the_profile_of_your_audio_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "your-audio.md").read_text(encoding="utf-8"), re.DOTALL)
    Profile.model_validate(yaml.safe_load(text))


def test_every_profile_is_in_the_table() -> None:
    table = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    published = git("ls-files", "profiles/*.yaml") or ["profiles/bundled.yaml"]  # others are somebody's own
    assert [name for name in published if f"`{Path(name).stem}`" not in table] == []
