"""Random uses of small random Whispers, with plain transformers and with ours: in how many do the two differ?

    python tools/differential.py                          # seeds 0 to 2999
    python tools/differential.py --first 5000 --cases 100
    python tools/differential.py --seed 17                # one of them, shown whole

tests/differential/ has the cases. Prints each difference, and at last `N cases, N differ, N rounding`; exit code 1
when there was a difference.
"""

import argparse
import multiprocessing
import os
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
sys.path.append(str(ROOT / "src"))  # behind PYTHONPATH, which may name another version's
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
EACH = 25  # cases of a process: what they compile and remember would fill the memory


def main() -> int:
    """Run the cases, in several processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--seed", type=int, help="this case alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.cases)
    if asked.seed is not None:
        from tests.differential.cases import case_of

        seeds = range(asked.seed, asked.seed + 1)
        print(case_of(asked.seed))
    verdicts: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(asked.workers, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(run, [seeds[i : i + EACH] for i in range(0, len(seeds), EACH)]):
            for seed, kind, result in found:
                verdicts[result.verdict] += 1
                calls.update({name: getattr(result, name) for name in ("calls", "raised", "endless")} | result.paths)
                if result.verdict in ("differs", "rounding"):
                    print(f"seed {seed} ({kind}) {result.verdict}: {result.why}", flush=True)
    print(
        f"{calls['calls']} calls, of which transformers raised in {calls['raised']} and did not end in"
        f" {calls['endless']}; optimize_model decoded {calls['whole model']} as a whole and {calls['decoder']} by its"
        f" decoder; engine fused refused {verdicts['refused']} cases"
    )
    print(f"{verdicts.total()} cases, {verdicts['differs']} differ, {verdicts['rounding']} rounding")
    return 1 if verdicts["differs"] else 0


def run(seeds: range) -> list[tuple[int, str, Any]]:
    """In a process of its own: the results of these seeds."""
    from tests.differential.cases import case_of
    from tests.differential.run import run_case
    from whisper_speedup.engines.huggingface import quiet_transformers

    quiet_transformers()
    warnings.simplefilter("ignore")  # those of calls are compared
    cases = [case_of(seed) for seed in seeds]
    return [(case.seed, f"{case.kind}, {case.optimised}", run_case(case)) for case in cases]


if __name__ == "__main__":
    sys.exit(main())
