from tests.generated_runs import generate
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
    made = generate(1)
    made.about["fused"]["environment"] = {"cpu": {"model": "Other CPU", "count": 64, "architecture": "arm64"}}
    (text,) = warned(made)
    assert "cpu.model Other CPU against Example CPU 3000" in text
    assert "more" in text


def test_clocks_further_apart_than_five_percent():
    made = generate(1, cuda=True)
    made.about["fused"]["conditions"] = {"sm_clock_mhz": 1900}
    assert warned(made) == []
    made.about["fused"]["conditions"] = {"sm_clock_mhz": 1700}
    (text,) = warned(made)
    assert "sm_clock_mhz 1700 against 1980" in text


def test_throttling_is_said_of_either_run():
    made = generate(1, cuda=True)
    made.about["huggingface"]["conditions"] = {"after": {"throttle_reasons": ["thermal"]}}
    (text,) = warned(made)
    assert text.startswith("huggingface ran while the processor was throttled")


def test_threads_and_prompts():
    made = generate(1)
    made.about["fused"] |= {"threads": 8, "prompt": [50257]}
    threads, prompt = warned(made)
    assert "threads (8 against 2)" in threads
    assert "[50257] against [50257, 50362]" in prompt
