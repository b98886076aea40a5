import pytest
from generated_runs import generate

from whisper_speedup.compare.verdict import arithmetic, epsilon, verdict


@pytest.mark.parametrize(
    ("dtype", "precision", "expected"),
    [
        ("float32", "float32", "float32"), ("float32", "autocast", "float16"), ("float16", "half", "float16"),
        ("float32", "tf32", "float16"), ("bfloat16", "bfloat16", "bfloat16"), ("float64", "float64", "float64"),
        ("int8", None, "float16"),
    ],
)  # fmt: skip
def test_the_arithmetic_of_a_run(dtype, precision, expected):
    settings = {"precision": precision} if precision else {}
    assert arithmetic(generate(1).run("fused").about.but(dtype=dtype, settings=settings)) == expected


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
