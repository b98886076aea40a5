import pytest

from whisper_speedup.compare.verdict import arithmetic, epsilon, verdict


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"dtype": "float32", "settings": {"precision": "float32"}}, "float32"),
        ({"dtype": "float32", "settings": {"precision": "autocast"}}, "float16"),
        ({"dtype": "float16", "settings": {"precision": "half"}}, "float16"),
        ({"dtype": "float32", "settings": {"precision": "tf32"}}, "float16"),
        ({"dtype": "bfloat16", "settings": {"precision": "bfloat16"}}, "bfloat16"),
        ({"dtype": "float64", "settings": {"precision": "float64"}}, "float64"),
        ({"dtype": "int8", "settings": {}}, "float16"),
        ({}, "float16"),
    ],
)
def test_the_arithmetic_of_a_run(about, expected):
    assert arithmetic(about) == expected


def test_the_limit_is_the_coarser_engine_s_and_follows_the_length_penalty():
    assert epsilon(["float32", "float32"], 30, 1.0) == 2**-13
    assert epsilon(["float16", "float32"], 30, 1.0) == 2**-6
    assert epsilon(["float64", "float32"], 30, 1.0) == 2**-13
    assert epsilon(["float16", "float16"], 30, 0.0) == pytest.approx(30 * 2**-6)
    assert epsilon(["float32", "float32"], 0, 0.5) == 2**-13


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(0.01, "rounding tie"), (-0.01, "rounding tie"), (0.02, "better"), (-2.0, "worse"), (2**-6, "rounding tie")],
)
def test_the_verdict(gap, expected):
    assert verdict(gap, 2**-6) == expected
