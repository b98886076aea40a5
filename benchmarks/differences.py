"""The differing outputs of profiles that `compare` has judged, as one JSON without times: engines and variants.

    python benchmarks/differences.py --profiles stress stress-base

A row is an engine, or a variant of the baseline (`yardstick.NAME`), against the baseline: how many texts and token ids
differ, how many of them are rounding ties, better or worse under the fp32 reference, and each difference with its gap.
"""

import argparse
from pathlib import Path
from typing import Any

from record import record

from whisper_speedup.disk.files import read_json, read_jsonl

COUNTS = ("different", "different_tokens", "rounding_ties", "better", "worse", "not_judged", "truncated", "failed")


def main() -> None:
    """Write benchmarks/results/differences-DATE-DEVICE.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", required=True, help="names of folders in --reports")
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    rows = [row for name in arguments.profiles for row in differences(name, arguments.reports / name)]
    label = "cpu" if {row["device"] for row in rows} == {"cpu"} else rows[0]["device_name"].replace(" ", "-")
    path = record("differences", label, arguments.out, rows=rows)
    for row in rows:
        counts = ", ".join(f"{key} {row[key]}" for key in COUNTS if row[key])
        print(f"{row['profile']:12} {row['engine']:20} of {row['utterances']}: {counts or 'none'}")
    print(path)


def differences(profile: str, folder: Path) -> list[dict[str, Any]]:
    """A row for each engine and variant of reports/PROFILE."""
    context, metrics = read_json(folder / "context.json"), read_json(folder / "metrics.json")
    rows = read_jsonl(folder / "differences.jsonl")
    baseline = context["runs"][context["baseline"]]
    compared = {name: pair["utterances"] for name, pair in context["comparisons"].items()}
    variants = [f"yardstick.{name}" for name in context["yardstick"]["variants"]]
    compared |= {name: metrics[f"{name}.utterances"] for name in variants}
    keys = ("id", "same_text", "words_apart", "gap", "epsilon", "verdict", "not_judged")
    return [
        {
            "profile": profile, "model": context["model"]["name"], "engine": name, "device": baseline["device"],
            "device_name": baseline["device_name"], "threads": baseline["threads"], "utterances": utterances,
            **{key: metrics[f"{name}.{key}"] for key in COUNTS},
            "differ": [{key: row[key] for key in keys} for row in rows if row["engine"] == name],
        }
        for name, utterances in compared.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
