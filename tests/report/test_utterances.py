"""The table of every utterance, from rows as compare writes them."""

from whisper_speedup.compare.latency import Heard, Latency
from whisper_speedup.report.utterances import failed, utterances


def row(name: str, **seconds: float | None) -> Latency:
    """An utterance that each engine took so long for; None for one that has no output of it."""
    engines = {
        engine: Heard(error="clip.wav is empty.") if one is None else Heard(seconds=one, text=f"{name} by {engine}")
        for engine, one in seconds.items()
    }
    return Latency(id=name, duration_s=3.0, cut_from_s=None, reference=None, error=None, engines=engines)


def test_an_engine_s_time_stands_beside_how_much_faster_it_is() -> None:
    latency = [row("a", base=2.0, quick=0.5, slow=4.0), row("b", base=3.0, quick=3.0, slow=2.0)]
    table = utterances(latency, "base", ["quick", "slow"], [])
    assert table.time_unit == "s"
    assert [one["before"] for one in table.rows] == ["2.00", "3.00"]
    assert [one["after"] for one in table.rows] == [
        [("0.50", "4.00\N{MULTIPLICATION SIGN}"), ("4.00", "0.50\N{MULTIPLICATION SIGN}")],
        [("3.00", "1.00\N{MULTIPLICATION SIGN}"), ("2.00", "1.50\N{MULTIPLICATION SIGN}")],
    ]


def test_where_one_has_no_output_there_is_no_ratio_and_the_other_s_text() -> None:
    latency = [row("a", base=None, quick=0.5), row("b", base=2.0, quick=None)]
    first, second = utterances(latency, "base", ["quick"], []).rows
    assert [ratio for _, ratio in first["after"] + second["after"]] == ["\N{EN DASH}"] * 2
    assert (first["text"], second["text"]) == ("a by quick", "b by base")
    assert first["failed"]
    assert second["failed"]
    assert [one["engines"] for one in failed(latency, {"base": "Base", "quick": "Quick"})] == ["Base", "Quick"]
