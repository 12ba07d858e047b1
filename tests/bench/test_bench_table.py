"""The table of the benchmarks: met, not met, missing, failed; and the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from semscale.bench.machine import describe
from semscale.bench.run import Outcome, run_benchmark
from semscale.bench.table import BENCHMARKS, Row, document, markdown, rows_of
from semscale.bench.write import make_folder, write
from semscale.errors import SemscaleError


def spread(middle: float, low: float, high: float) -> dict[str, float]:
    return {"ratio": middle, "ratio_low": low, "ratio_high": high}


KERNEL: dict[str, Any] = {
    "rows": [{"way": "max, predictions", "peak_mb": 28.4, **spread(1.031, 1.02, 1.044)}],
    "screened": None,
    "on_gpu": None,
    "together": spread(2.71, 2.6, 2.8),
    "growth": [{"case": f"{what} x 2", **spread(2.1, 2.0, 2.2)} for what in ("images", "classes", "steps")],
}
STUDY = {
    "against_once": {"median": 1.15, "low": 1.1, "high": 1.2},
    "faster_than_every_step": {"median": 19.96, "low": 19, "high": 21},
}
ENCODE = {
    "tables": [
        {
            "kind": "pixels",
            "model": "semscale-mini",
            "rows": [{"way": "server, packed", "rate_ratio": 0.91, "low": 0.9, "high": 0.92}],
        },
        {"kind": "files", "model": "semscale-mini", "rows": []},
    ]
}
SECOND_RUN = {"seconds": 10.04, "seconds_low": 9.0, "seconds_high": 11.0}
TRIALS = {"ms_per_trial": 41.2, "ms_per_trial_low": 40.0, "ms_per_trial_high": 44.0}
DATASETS = {
    "reading": {
        name: {"median": rate, "least": 0.7, "most": 1.0}
        for name, rate in {"folder": 0.97, "zip": 0.89, "tar.gz": 0.71}.items()
    },
    "listing": {"samples_per_second": 123456.7, "mib_beyond": 12.3},
}

SCALE = {
    "endpoints": [{"endpoints": n, **spread(0.95, 0.9, 0.99)} for n in (1, 4)],
    "uneven": spread(0.89, 0.8, 0.9),
    "limit": {"processor_ms": 0.25},
    "bytes_per_image": {"driver": 151.4, "ledger": 80.0},
}


def rows(name: str, result: dict[str, Any]) -> dict[str, Row]:
    found = rows_of(name, Outcome(1.0, result=result))
    assert len(found) == len(BENCHMARKS[name])
    return {row.measure.removeprefix(f"{name}: "): row for row in found}


def test_kernel_rows_are_held_against_their_targets() -> None:
    found = rows("kernel", KERNEL)
    bare = found["`max`, predictions, against the bare product"]
    assert (bare.target, bare.found, bare.met) == ("<= 1.05", "1.031 (1.020 to 1.044)", True)
    peak = found["`max`, predictions, peak memory beyond the inputs, MB"]
    assert (peak.target, peak.found, peak.met) == ("<= 300", "28", True)
    assert found["all five aggregations against `max`"].met is False
    assert found["time with twice the steps"].met is True


def test_a_figure_that_this_machine_cannot_have_is_not_measured() -> None:
    row = rows("kernel", KERNEL)["screening in bfloat16 against float32"]
    assert (row.found, row.met) == ("not measured: no AMX here, without which it does not pay", None)
    gpu = "a GPU against the CPU, near ties scored again"
    assert rows("kernel", KERNEL)[gpu].found == "not measured: no GPU"
    assert rows("kernel", KERNEL | {"on_gpu": spread(0.11, 0.1, 0.12)})[gpu].found == "0.110 (0.100 to 0.120)"
    row = rows("encode", ENCODE)["server's rate against bare open_clip, ViT-B-32"]
    assert (row.found, row.met) == ("not measured: only at full size", None)
    assert rows("datasets", DATASETS)["reading parquet, rate against bare Pillow"].found == "not measured"


def test_met_looks_at_the_median_and_not_at_its_rounded_form() -> None:
    found = list(rows("study", STUDY).values())
    assert [row.met for row in found] == [True, False, None, None]
    assert found[1].found == "20.0 (19.0 to 21.0)"
    (second,) = rows("second_run", SECOND_RUN).values()
    assert (second.found, second.met) == ("10.0 (9.0 to 11.0)", False)
    assert next(iter(rows("encode", ENCODE).values())).met is True
    (trial,) = rows("trials", TRIALS).values()
    assert (trial.found, trial.met) == ("41 (40 to 44)", True)


def test_scale_is_told_for_the_endpoints_that_ran() -> None:
    found = list(rows("scale", SCALE).values())
    assert [row.met for row in found] == [True, None, False, None, None]
    assert found[0].found == "0.95 (0.90 to 0.99)"
    assert found[1].found == "not measured: only at full size"
    assert [row.found for row in found[3:]] == ["0.25", "151"]


def test_compressed_tars_and_listings_have_no_target() -> None:
    found = rows("datasets", DATASETS)
    assert found["reading folder, rate against bare Pillow"].met is True
    assert found["reading zip, rate against bare Pillow"].met is False
    compressed = found["reading tar.gz, compressed, rate against bare Pillow"]
    assert (compressed.target, compressed.found, compressed.met) == ("", "0.71 (0.70 to 1.00)", None)
    listing = found["listing, samples per second"]
    assert (listing.found, listing.met) == ("123,457", None)


def test_a_failed_benchmark_has_all_its_rows_with_the_error() -> None:
    found = rows_of("study", Outcome(3.0, error="ValueError: a | b"))
    assert [row.found for row in found] == ["not measured: ValueError: a | b"] * 4
    assert all(row.met is None for row in found)


@pytest.mark.parametrize(("load", "quick"), [(0.3, False), (1.7, True)])
def test_the_table_warns_of_a_busy_machine_and_of_quick_sizes(load: float, quick: bool) -> None:
    outcomes = {"trials": Outcome(9.0, result=TRIALS), "study": Outcome(3.0, error="ValueError: a | b")}
    told = document(outcomes, describe(), load, 2.0, quick)
    assert json.loads(json.dumps(told)) == told
    shown = markdown(told)
    assert ("not worth quoting" in shown) == (load > 1)
    assert ("Quick sizes" in shown) == quick
    lines = shown.splitlines()
    verdict = "" if quick else "yes"
    assert f"| trials: one more trial, ms | <= 60 | 41 (40 to 44) | {verdict} |" in lines
    assert (
        r"| study: 6,000 images, time against encoding the same once | <= 1.15 | not measured: ValueError: a \| b |  |"
        in lines
    )


def test_a_failure_is_told_in_one_line_and_its_log_kept() -> None:
    outcome = run_benchmark("nothing_of_this_name", quick=True)
    assert outcome.result is None
    assert outcome.error == "ModuleNotFoundError: No module named 'semscale.bench.nothing_of_this_name'"
    assert outcome.log is not None
    assert "Traceback" in outcome.log


def test_a_folder_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SemscaleError, match="cannot be written"):
        make_folder(tmp_path / "file" / "below")
    make_folder(tmp_path / "new")
    write(tmp_path / "new", {"bench.md": "one"})
    write(tmp_path / "new", {"bench.md": "two"})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bench.md"]
    assert (tmp_path / "new" / "bench.md").read_text() == "two"


def test_the_command_measures_prints_and_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semscale", "bench", "--quick", "--only", "kernel", "--out", "found"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("kernel: measuring\nkernel: done, ")
    assert (tmp_path / "found" / "bench.md").read_text() == done.stdout
    told = json.loads((tmp_path / "found" / "bench.json").read_text())
    assert told["benchmarks"]["kernel"]["result"]["agreement"] == 1.0
    assert len(told["rows"]) == len(BENCHMARKS["kernel"]) == done.stdout.count("| kernel: ")
    assert "Quick sizes" in done.stdout
