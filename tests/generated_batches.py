"""Generated runs with a batch engine beside `fused`, on two workers of which one was lost and started again."""

from typing import Any

from generated_runs import GeneratedRuns, generate

STREAM = {"seconds": 2.0, "utterances": 6, "encoder_s": 1.5, "decoder_s": 0.5, "steps": 60, "slots": 32}


def worker(number: int, utterances: int, audio_s: float, stream: Any, lost: str | None = None) -> dict[str, Any]:
    return {
        "worker": number, "device_name": "NVIDIA H100 80GB HBM3", "utterances": utterances, "audio_s": audio_s,
        "busy_s": None if lost else 2.0, "load_s": 1.0, "warmup_s": 2.0, "stream": stream, "memory": None, "lost": lost,
    }  # fmt: skip


def batches(count: int = 12, lost: bool = False) -> GeneratedRuns:
    """`count` utterances in 2 s, a third of the seconds that they were in slots; every engine tells its throughput."""
    made = generate(count, cuda=True)
    audio_s = sum(row["duration_s"] for row in made.manifest)
    made.results["fused_batch"] = [{**row, "seconds": [6.0 / count]} for row in made.results["fused"]]
    made.about["fused_batch"] = {**made.about["fused"], "engine": "fused_batch"}
    for engine, about in made.about.items():
        many = engine == "fused_batch"
        workers = [worker(n, count // 2, audio_s / 2, STREAM if many else None) for n in range(2)]
        if lost and many:
            workers.append(worker(1, 0, 0.0, None, lost="its process was ended by SIGKILL."))
        about["workers"] = workers
        seconds = 2.0 if many else sum(row["seconds"][0] for row in made.results[engine]) / 2 + 1
        about["throughput"] = {
            "utterances": count, "audio_s": audio_s, "seconds": seconds, "batched": many, "workers": 2,
        }  # fmt: skip
        if not many:
            about["breakdown"] = {
                "encoder_s": 1.0, "prefill_s": 0.5, "steps_s": 2.0, "host_s": 0.5, "utterances": 4, "step_s": 0.01,
            }  # fmt: skip
    return made
