"""What the benchmark makes of its measurements."""

from __future__ import annotations

from typing import Any

import pytest

import report
import scan


def _ours(*seconds: float, peak: float = 1.5) -> dict[str, Any]:
    calls = [
        {"prompts": ["spleen", "liver"], "seconds": s, "steps": {"network": s}, "device": "cpu"}
        for s in seconds
    ]
    return {"calls": calls, "peak_gb": peak}


def _other(seconds: float) -> dict[str, Any]:
    return {
        "what": "another way", "spacing_mm": [1.0, 1.0, 3.0], "window": [8, 8, 8],
        "stride": [4, 4, 4], "grid": [16, 16, 16], "windows": 27, "passes": 1, "peak_gb": 2.0,
        "seconds_for_five_windows": 5.0, "extrapolated_seconds_one": seconds,
        "extrapolated_seconds_all": seconds,
    }  # fmt: skip


@pytest.fixture
def measured() -> dict[str, Any]:
    return {
        "one_prompt": _ours(10.0),
        "all_prompts": _ours(20.0),
        "one_more": _ours(19.0, 0.5),
        "one_prompt_everywhere": _ours(15.0, 1.2),
        "all_prompts_everywhere": _ours(30.0),
        "sliding_vnet": _other(9000.0),
        "nnunet": _other(1100.0),
    }


def _by_name(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {target["what"]: target for target in report.targets(measured)}


def test_ratios_are_of_what_they_say(measured):
    targets = report.targets(measured)
    assert [t["measured"] for t in targets] == pytest.approx([55.0, 2.0, 0.05, 0.08, 1.5])
    assert all(t["met"] for t in targets)


def test_a_missed_target_is_said(measured):
    measured["nnunet"] = _other(900.0)
    measured["all_prompts"] = _ours(41.0, peak=4.5)
    verdicts = [t["met"] for t in report.targets(measured)]
    assert verdicts == [False, False, True, True, False]
    facts = dict.fromkeys(
        ("scan", "pack", "processor", "threads", "repeat", "python", "torch", "load"), "x"
    )
    page = report.page(facts, measured)
    assert page.count("**missed**") == 3
    assert page.count("| met |") == 2
    assert "extrapolated" in page
    assert "1.00 x 1.00 x 3.00 mm" in page


def test_the_fastest_run_counts_and_the_largest_memory():
    best = report.fastest([_ours(3.0, 0.4, peak=1.0), _ours(2.0, 0.5, peak=2.0)])
    assert [call["seconds"] for call in best["calls"]] == [2.0, 0.4]
    assert best["peak_gb"] == 2.0
    assert best["all_seconds"] == [[3.0, 0.4], [2.0, 0.5]]


def test_without_research_data_the_scan_is_a_phantom_of_the_same_grid(tmp_path, monkeypatch):
    import SimpleITK as sitk

    monkeypatch.setenv("VERSEMI_DATA", str(tmp_path / "none"))
    what = scan.make(tmp_path / "scan.nrrd")
    image = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    assert "phantom" in what
    assert image.GetSize() == (512, 512, 150)
    voxels = sitk.GetArrayViewFromImage(image)
    assert voxels.min() < -900
    assert voxels.max() > 200
