"""`lookalike bench worker`: its measurements, its time limit and its recommendations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from workers import benchmark
from workers.benchmark import Rate, recommend

ROOT = Path(__file__).parents[2]
MODEL = "test_efficientnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """Return random weights of a small model."""
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(timm.create_model(MODEL, num_classes=0).state_dict(), path)
    return str(path)


def test_every_setting_is_measured_and_one_recommended(weights, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # no compiler
    file = tmp_path / "rates.json"
    options = ["--model", MODEL, "--weights", weights, "--rounds", "2", "--seconds", "0.02", "--precision", "fp32"]
    assert benchmark.main([*options, "--batch", "2", "--batch", "4", "--json-file", str(file)]) == 0
    table = capsys.readouterr().out
    report = json.loads(file.read_text())
    plain = [row for row in report["rates"] if row["way"] == "plain"]
    assert {(row["memory_format"], row["batch"]) for row in plain} == {
        (layout, batch) for layout in ("channels_last", "contiguous") for batch in (2, 4)
    }
    assert all(len(row["rates"]) == 2 for row in plain)
    assert report["recommended"]["LOOKALIKE_PRECISION"] == "fp32"
    assert f"LOOKALIKE_BATCH_SIZE={report['recommended']['LOOKALIKE_BATCH_SIZE']}" in table
    if not torch.cuda.is_available():
        (compiled,) = [row for row in report["rates"] if row["way"] == "compile"]
        assert compiled["trouble"] in table
        assert "install g++" in compiled["trouble"]


def test_it_ends_when_the_time_is_up(weights, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    options = ["--model", MODEL, "--weights", weights, "--seconds", "0.05", "--rounds", "1000", "--precision", "fp32"]
    assert benchmark.main([*options, "--limit", "2", "--json"]) == 0
    rates = json.loads(capsys.readouterr().out)["rates"]
    assert any(row["rates"] for row in rates)
    assert all(len(row["rates"]) < 1000 for row in rates)
    assert benchmark.main([*options, "--limit", "0"]) == 1
    assert "nothing could be measured" in capsys.readouterr().err


def test_lookalike_bench_worker_is_that_benchmark(weights):
    command = [sys.executable, "-m", "app.cli", "bench", "worker", "--quick", "--json", "--seconds", "0.05"]
    ran = subprocess.run(
        [*command, "--model", MODEL, "--weights", weights],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["model"] == MODEL
    assert report["rates"][0]["rates"]


def test_compiling_is_recommended_only_if_it_pays():
    plain = Rate("fp32", "channels_last", "plain", 8, [100.0])
    assert "LOOKALIKE_COMPILE" not in recommend([plain, Rate("fp32", "channels_last", "compile", 8, [105.0])])
    assert recommend([plain, Rate("fp32", "channels_last", "compile", 8, [150.0])])["LOOKALIKE_COMPILE"] == "true"


def test_a_fast_type_far_from_fp32_is_not_recommended():
    exact = Rate("fp32", "channels_last", "plain", 8, [10.0])
    far = Rate("bf16", "channels_last", "plain", 8, [90.0], cosine=0.99)
    near = Rate("fp16", "channels_last", "plain", 8, [50.0], cosine=0.9999)
    assert recommend([exact, far])["LOOKALIKE_PRECISION"] == "fp32"
    assert recommend([exact, far, near])["LOOKALIKE_PRECISION"] == "fp16"


def test_an_unknown_model_is_one_line(capsys):
    assert benchmark.main(["--model", "no_such_model"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
