"""The demo as `make demo` runs it, with a small pack."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "examples" / "demo.py"), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        # No research data, and a width at which no line is broken.
        env={**os.environ, "VERSEMI_DATA": "/nonexistent", "COLUMNS": "200"},
        cwd=REPOSITORY,
        timeout=600,
        check=False,
    )


def test_a_scan_goes_through_mrml_into_files_and_a_picture(tiny_pack: Path, tmp_path: Path):
    out = tmp_path / "demo"
    pictures = tmp_path / "pictures"
    ran = _demo("--pack", str(tiny_pack), "--out", str(out), "--pictures", str(pictures))
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Anterior hippocampus" in ran.stdout
    assert "segment, all together" in ran.stdout
    assert "No research data here" in ran.stdout

    saved = sitk.ReadImage(str(out / "mni152.seg.nrrd"))
    names = {saved.GetMetaData(f"Segment{n}_Name") for n in range(2)}
    assert names == {"Anterior hippocampus", "Posterior hippocampus"}

    scan = sitk.ReadImage(str(out / "mni152_t1.nii.gz"))
    exported = sitk.ReadImage(str(out / "mni152_labels.nii.gz"))
    assert exported.GetSize() == scan.GetSize()
    assert (
        max(abs(a - b) for a, b in zip(exported.GetOrigin(), scan.GetOrigin(), strict=True)) < 1e-3
    )
    values = set(sitk.GetArrayFromImage(exported).ravel().tolist())
    with (out / "mni152_labels.labels.csv").open(encoding="utf-8") as file:
        table = {row["Name"]: int(row["LabelValue"]) for row in csv.DictReader(file)}
    assert set(table) == names
    assert values <= {0, *table.values()}
    assert (out / "mni152.png").stat().st_size > 50_000
    assert (pictures / "mni152.png").is_file()


def test_a_pack_that_is_not_there_is_said_in_one_sentence(tmp_path: Path):
    ran = _demo("--pack", str(tmp_path / "none"), "--out", str(tmp_path / "demo"))
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "none" in ran.stdout
