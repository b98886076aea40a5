"""What the two sections draw and what they say is missing, from runs that tell more or less."""

import pytest
from generated_runs import generate, params, profile

from whisper_speedup.compare import compare
from whisper_speedup.compare.latency import Latency
from whisper_speedup.disk.files import read_json
from whisper_speedup.disk.records import read_records
from whisper_speedup.report.memory import memory, parts
from whisper_speedup.report.speed import speed


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Context, metrics and latency of a compared run."""
    monkeypatch.chdir(tmp_path)

    def make(**settings):
        generate(12, **settings).write(tmp_path)
        folder = compare(profile(), "example", params())
        return (
            read_json(folder / "context.json"),
            read_json(folder / "metrics.json"),
            read_records(Latency, folder / "latency.jsonl"),
        )

    return make


def run(dtype="float16", **told):
    nothing = dict.fromkeys(("allocated", "reserved", "max_allocated", "max_reserved"))
    return {"dtype": dtype, "memory": nothing | {"process_peak": 1000} | told}


def test_on_a_gpu_the_parts_add_up_to_the_peak():
    found = parts(run(allocated=500, max_allocated=800, max_reserved=900), parameters=100)
    assert found == {"weights": 200, "caches": 300, "activations": 300, "reserved": 100, "rest": None}


def test_weights_that_cannot_be_there_are_not_drawn():
    found = parts(run(allocated=150, max_allocated=800, max_reserved=900), parameters=100)
    assert (found["weights"], found["caches"]) == (None, 150)


def test_what_weights_in_8_bits_take_on_a_gpu_is_not_guessed():
    told = {"allocated": 500, "max_allocated": 800, "max_reserved": 900}
    found = parts(run(**told) | {"settings": {"weights": "int8"}}, parameters=100)
    assert (found["weights"], found["caches"]) == (None, 500)
    found = parts(run("float32", **told) | {"settings": {"weights": "int8"}}, parameters=100)
    assert found["weights"] == 400


def test_on_a_cpu_only_the_weights_are_told_from_the_rest():
    found = parts(run("float32"), parameters=100)
    assert found == {"weights": 400, "caches": None, "activations": None, "reserved": None, "rest": 600}
    assert parts(run("int8"), parameters=100)["weights"] is None


def test_an_engine_that_tells_is_believed():
    found = parts(run("float32", weights=250, caches=50), parameters=100)
    assert (found["weights"], found["caches"], found["rest"]) == (250, 50, 700)


def test_the_table_says_what_is_not_known(results):
    context, _, _ = results()
    table = memory(context)
    assert [title for _, title in table.columns] == ["Weights", "All the rest"]
    assert "not told apart" in " ".join(table.notes)
    context, _, _ = results(cuda=True)
    table = memory(context)
    assert [title for _, title in table.columns] == ["Weights", "Caches and buffers", "Activations", "Reserved, unused"]
    assert table.rows[0][3][-1] == "4.65"
    assert table.unit == "GiB"


def test_runs_that_tell_nothing_draw_three_pictures_and_name_three_that_are_missing(results):
    found = speed(*results())
    assert [drawing.title for drawing in found.drawings] == [
        "Utterance by utterance", "How long an utterance takes", "Time against length",
    ]  # fmt: skip
    assert found.floor is found.breakdown is found.ladder is None
    assert len(found.missing) == 3


def test_the_floor_is_the_one_of_the_run_that_saw_the_highest_bandwidth(results):
    context, metrics, latency = results()
    context["runs"]["huggingface"]["step_floor"] = {"bytes": 65.6e6, "bandwidth_bytes_s": 20e9, "seconds": 0.00328}
    context["runs"]["fused"]["step_floor"] = {"bytes": 65.6e6, "bandwidth_bytes_s": 10e9, "seconds": 0.00656}
    found = speed(context, metrics, latency)
    assert "must read 65.6 MB" in found.floor
    assert "reads 20.0 GB/s, so a token cannot take less than 3.28 ms" in found.floor
    assert found.drawings[2].floor == "floor, 3.28 ms a token"
    assert "8 bits" not in found.floor
    context["runs"]["fused"]["settings"]["weights"] = "int8"
    assert "Weights in 8 bits are half as many bytes" in speed(context, metrics, latency).floor
    assert len(found.missing) == 2


def test_where_the_time_goes(results):
    context, metrics, latency = results()
    context["runs"]["fused"]["breakdown"] = {"encoder_s": 2.0, "prefill_s": 0.5, "steps_s": 1.5, "host_s": None}
    table = speed(context, metrics, latency).breakdown
    assert [title for _, title in table.columns] == ["Encoder", "Prompt", "Decode steps", "Sum"]
    ((_, label, _, cells),) = table.rows
    assert (label, cells, table.unit) == ("Fused", ["2.00", "0.50", "1.50", "4.00"], "s")
