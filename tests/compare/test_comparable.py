from generated_runs import GPU, generate

from whisper_speedup.compare.comparable import warnings
from whisper_speedup.compare.runs import Run


def warned(made):
    return warnings([Run(engine, about, []) for engine, about in made.about.items()])


def test_like_runs_give_no_warning():
    assert warned(generate(1)) == []
    assert warned(generate(1, cuda=True)) == []


def test_another_environment():
    made = generate(1)
    made.about["fused"]["environment"] = made.about["fused"]["environment"] | {"torch": "2.11.0"}
    (text,) = warned(made)
    assert "environments" in text
    assert "torch 2.11.0 against 2.13.0+cpu" in text


def test_a_nested_difference_and_many_of_them():
    made = generate(1, cuda=True)
    made.about["fused"]["environment"] = made.about["fused"]["environment"] | {
        "gpus": [GPU | {"name": "Other GPU"}], "cpu": "Other CPU", "driver": "1", "numpy": "1", "triton": "1",
    }  # fmt: skip
    (text,) = warned(made)
    assert "cpu Other CPU against Example CPU 3000" in text
    assert "gpus.0.name Other GPU against NVIDIA H100 80GB HBM3" in text
    assert "and 1 more" in text


def test_clocks_further_apart_than_their_tolerance():
    made = generate(1, cuda=True)
    after = made.about["fused"]["conditions"]["after"]
    before = made.about["fused"]["conditions"]["before"]
    before["sm_mhz"] = 210  # before the first utterance the GPU may still idle
    after["sm_mhz"] = 1900
    after["power_w"], after["temperature_c"] = 90.0, 80
    assert warned(made) == []
    after["sm_mhz"] = 1700
    (text,) = warned(made)
    assert "sm_mhz 1700 against 1980" in text


def test_throttling_is_said_of_either_run():
    made = generate(1, cuda=True)
    made.about["huggingface"]["conditions"]["after"]["throttling"] = ["hardware thermal slowdown"]
    assert warned(made) == ["The GPU was throttled while huggingface ran (hardware thermal slowdown)."]


def test_a_busy_machine():
    made = generate(1)
    made.about["fused"]["conditions"]["before"]["load_1min"] = 2.9
    assert warned(made) == []
    made.about["fused"]["conditions"]["before"]["load_1min"] = 7.25
    assert warned(made) == ["The machine was busy with other work while fused ran (a load of 7.25 on 2 cores)."]


def test_a_run_that_knows_nothing_of_its_conditions():
    made = generate(1)
    made.about["fused"] |= {"conditions": None}
    assert warned(made) == []


def test_threads_and_prompts():
    made = generate(1)
    made.about["fused"] |= {"threads": 8, "prompt": [50257]}
    threads, prompt = warned(made)
    assert "threads (8 against 2)" in threads
    assert "[50257] against [50257, 50362]" in prompt


def test_what_an_interrupted_process_read_counts_too():
    made = generate(1, cuda=True)
    reading = made.about["fused"]["conditions"]["before"] | {"throttling": ["software power cap"], "sm_mhz": 2500}
    made.about["fused"]["resumed_from"] = [{"rows": 1, "started": "today", "conditions": reading}]
    throttled, clocks = warned(made)
    assert "throttled while fused ran (software power cap)" in throttled
    assert "sm_mhz 2500 against 1980" in clocks
