from generated_rounds import DURING, GPU_DURING
from generated_runs import GPU, GPU_ENVIRONMENT, generate

from whisper_speedup.compare.comparable import round_warnings, warnings
from whisper_speedup.compare.rounds import InRounds, Rounds
from whisper_speedup.run.rows import RoundsRecord, Setup, TurnsRecord


def warned(made):
    return warnings([made.run(engine) for engine in made.about])


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


def test_what_was_sampled_during_the_run_goes_before_single_readings():
    made = generate(1, cuda=True)
    for about in made.about.values():
        about["conditions"]["during"] = dict(GPU_DURING)
    assert warned(made) == []
    # The highest readings agree, the medians are 10% apart.
    made.about["fused"]["conditions"]["during"] |= {"sm_mhz": {"min": 1200, "median": 1780.0, "max": 1980}}
    assert warned(made) == ["fused and huggingface ran at different clocks (sm_mhz 1780 against 1980)."]
    made.about["fused"]["conditions"]["during"] |= {"sm_mhz": {"min": 1200, "median": 1890.0, "max": 1980}}
    assert warned(made) == []  # 4.5%
    made.about["fused"]["conditions"]["during"] |= {"throttling": {"software power cap": 12}}
    assert warned(made) == ["The GPU was throttled while fused ran (software power cap in 12 of 80 samples)."]


def test_work_of_others_is_told_from_our_own():
    made = generate(1)
    made.about["fused"]["conditions"]["during"] = dict(DURING)
    made.about["fused"]["conditions"]["before"]["load_1min"] = 9.0  # our own threads are in it
    assert warned(made) == []
    made.about["fused"]["conditions"]["during"] |= {"others_cores": {"min": 0.1, "median": 0.8, "max": 1.6}}
    assert warned(made) == [
        "The machine was busy with other work while fused ran (0.8 of 2 cores at the median, 1.6 at most)."
    ]


def round_warned(made, turns=None, left_out=None, found=None):
    engines = {}
    for engine in made.about:
        about = made.run(engine).about
        keys = {*Setup.model_fields, "load_s", "warmup_s", "memory"}
        engines[engine] = TurnsRecord.model_validate(
            about.model_dump(include=keys) | {"conditions": GPU_DURING, "waiting": {"seconds": 1.0, "cpu_s": 0.1}}
            | (turns or {}).get(engine, {})
        )  # fmt: skip
    for engine in left_out or {}:
        del engines[engine]
    record = RoundsRecord(profile="example", rounds=None, engines=engines, left_out=left_out or {})
    return round_warnings([made.run(engine) for engine in made.about], Rounds(record, {}), found or {})


def test_features_from_two_places():
    made = generate(1, cuda=True)
    for about in made.about.values():
        about["features"] = "cpu"
    made.about["fused"]["features"] = "device"
    assert warned(made) == [
        "fused and huggingface were given features that were computed elsewhere (measure.features device against cpu)."
    ]


def test_rounds_like_the_runs_give_no_warning():
    assert round_warned(generate(1, cuda=True)) == []
    assert round_warnings([], None, {}) == []


def test_conditions_of_the_turns():
    slow = GPU_DURING | {"sm_mhz": {"min": 900, "median": 1400.0, "max": 1980}, "throttling": {"hardware slowdown": 3}}
    assert round_warned(generate(1, cuda=True), {"fused": {"conditions": slow}}) == [
        "The GPU was throttled while fused took its turns (hardware slowdown in 3 of 80 samples).",
        "fused and huggingface took their turns at different clocks (sm_mhz 1400 against 1980).",
    ]


def test_turns_that_were_not_taken_as_the_run_was():
    made = generate(1, cuda=True)
    environment, settings, threads = round_warned(
        made,
        {"fused": {"environment": GPU_ENVIRONMENT | {"torch": "1"}, "settings": {"precision": "half"}, "threads": 8}},
    )
    assert "another environment than it ran with before (environment.torch 1 against 2.13.0+cu130)" in environment
    assert "other settings than it ran with before (settings.precision half against float16)" in settings
    assert "threads 8 against 2" in threads


def test_an_engine_without_turns():
    assert round_warned(generate(1), left_out={"fused": "fused needs 60 GiB."}) == [
        "fused took no turns in the rounds: fused needs 60 GiB."
    ]


def test_the_two_ways_of_measuring_contradict_each_other():
    found = InRounds(clips=1, baseline_s=[], engine_s=[], speedups=[], interval=(2.1, 2.3), whole_set=2.0)
    (text,) = round_warned(generate(1), found={"fused": found})
    assert "2.00 times as fast" in text
    assert "2.10 to 2.30 times when they took turns" in text
    for harmless in ({"whole_set": 2.2}, {"whole_set": None}, {"interval": None}):
        assert round_warned(generate(1), found={"fused": found.but(**harmless)}) == []
    assert round_warned(generate(1), found={"fused": None}) == []
