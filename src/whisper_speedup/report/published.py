"""What the Kernl notebook printed in January 2023, as it stands in its stored output cell.

Source: https://github.com/ELS-RD/kernl, experimental/whisper/speedup.ipynb. Its text speaks of an RTX 3090; its
nvidia-smi cell shows an A100-SXM4-40GB. It prints GB and divides by 1024 three times, which is GiB. Both of its runs
share one process, so its memory is not of one engine. It printed no word error rate.
"""

SOURCE = (
    "https://github.com/ELS-RD/kernl/blob/12f0605f4c57292dc996ed90215dded4cf3deef2/experimental/whisper/speedup.ipynb"
)
MODEL = "openai/whisper-large-v2"
HARDWARE = "NVIDIA A100-SXM4-40GB"
DATA = "LibriSpeech test-clean"
UTTERANCES = 2620
SEARCH = "5 beams, at most 50 tokens"
SPEEDUP = 2.3
BASELINE_TOTAL_S = 39.8 * 60
TOTAL_S = 17.1 * 60
DIFFERENT = 37
WARMUP_S = 13.42 * 60
PEAK_RESERVED_BYTES = 13.6 * 2**30

# What others published of many utterances at once. Both figures were handed to this project in November 2026 and not
# read from the tables behind the links, which its makers could not reach.
MLPERF = "https://mlcommons.org/benchmarks/inference-datacenter/"
MLPERF_UTTERANCES_PER_S = 67.9  # v5.1, closed division, Whisper, offline, one H200
OPEN_ASR = "https://huggingface.co/spaces/hf-audio/open_asr_leaderboard"
OPEN_ASR_RTFX = 144.0  # openai/whisper-large-v2
