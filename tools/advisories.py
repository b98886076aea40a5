"""Known vulnerabilities of the locked packages, from PyPI's JSON: `advisories.py LOCK ...`, as CI runs it.

pip-audit (`make audit`) asks PyPI for each version's page and nothing else. A mirror may hold the page of each project
alone, which names the newest version and its vulnerabilities; so this asks there, too, and says which packages are
locked at an older version and stay unknown. Exit code 1 where a known vulnerability is not in ACCEPTED.
"""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

INDEX = "https://pypi.org/pypi"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
# By CVE, with the reason. An entry goes when a version that mends it is locked.
ACCEPTED = {
    "CVE-2025-69872": "no version mends it; DVC's own cache, which make keeps in .dvc/tmp, where no one else writes",
}


def main(locks: list[str]) -> int:
    """Print what is known of the packages of all locks."""
    pins = sorted({pin for lock in locks for pin in PIN.findall(Path(lock).read_text(encoding="utf-8"))})
    try:
        asked(f"{INDEX}/pip/json")  # one question, before two hundred wait for an index that is not there
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda pin: advisories(*pin), pins))
    except (OSError, ValueError) as error:
        print(f"NOT AUDITED: {INDEX} does not answer ({error})")
        return 0
    unknown = [f"{name} {version}" for (name, version), found in zip(pins, answers, strict=True) if found is None]
    open_ones = 0
    for (name, version), found in zip(pins, answers, strict=True):
        for identity, names, summary in found or []:
            reason = next((ACCEPTED[one] for one in names if one in ACCEPTED), None)
            open_ones += reason is None
            print(f"{name} {version}: {identity} {summary}" + (f" (accepted: {reason})" if reason else ""))
    print(f"audited {len(pins) - len(unknown)} of {len(pins)} packages; vulnerabilities not accepted: {open_ones}")
    if unknown:
        print(f"unknown, for the index holds a newer version's page alone: {', '.join(unknown)}")
    return 1 if open_ones else 0


def advisories(name: str, version: str) -> list[tuple[str, set[str], str]] | None:
    """Each vulnerability of one version once: its id, all its names, a line; None where the index does not say."""
    page = asked(f"{INDEX}/{name}/{version}/json") or asked(f"{INDEX}/{name}/json")
    if page is None or "vulnerabilities" not in page or page["info"]["version"] != version:
        return None
    found: list[tuple[str, set[str], str]] = []
    for entry in page["vulnerabilities"]:
        names = {entry["id"], *entry.get("aliases", [])}
        if not entry.get("withdrawn") and not any(names & others for _, others, _ in found):
            found.append((entry["id"], names, (entry.get("summary") or entry.get("details") or "").split(". ")[0]))
    return found


def asked(url: str) -> Any:
    """A page of the index; None where it has none."""
    try:
        with urlopen(url, timeout=30) as answer:  # noqa: S310 - INDEX is https
            return json.load(answer)
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
