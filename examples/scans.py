"""The scans of the demo: one that comes in a wheel, two where research data lie beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]

_ABDOMEN = {
    "spleen": 1,
    "right_kidney": 2,
    "left_kidney": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "portal_and_splenic_veins": 10,
    "pancreas": 11,
    "right_adrenal_gland": 12,
    "left_adrenal_gland": 13,
}


@dataclass(frozen=True)
class DemoScan:
    """A scan and what to ask of it.

    Attributes:
        name: of its files.
        title: for people.
        image: file.
        prompts: task identifiers.
        modality: ``"CT"`` or ``"MR"``.
        looks_from: RAS direction from the subject to the viewer of the 3D view.
        surroundings: what is drawn as a translucent surface around the result: ``"brain"``,
            ``"bones"`` or ``""``.
        roi: RAS low and high corner in mm, ``(2, 3)``; None for the whole scan.
        around: mm beside the region, or else beside what was found, that the picture shows; all
            of the scan if None.
        reference: label map to compare with, and the value of each prompt in it.
    """

    name: str
    title: str
    image: Path
    prompts: Sequence[str]
    modality: str
    looks_from: tuple[float, float, float]
    surroundings: str = ""
    roi: np.ndarray | None = None
    around: float | None = None
    reference: Path | None = None
    values: Mapping[str, int] = field(default_factory=dict)


def data_folder() -> Path | None:
    """The research data: ``VERSEMI_DATA`` where it is set, else beside the checkout, if there."""
    folder = Path(os.environ.get("VERSEMI_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if (folder / "versemi4.json").is_file() else None


def demo_scans(folder: Path) -> list[DemoScan]:
    """The scans that can be had here; what has to be written goes to `folder`."""
    scans = [mni_brain(folder)]
    data = data_folder()
    if data is not None:
        scans += [left_atrium(data), abdomen(data)]
    return scans


def mni_brain(folder: Path) -> DemoScan:
    """The MNI152 T1 template, skull-stripped, with a box around the left hippocampus.

    It is an average of 152 heads and comes in the wheel of nilearn; nothing is downloaded.
    """
    from nilearn.datasets import load_mni152_template

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mni152_t1.nii.gz"
    load_mni152_template(resolution=1).to_filename(path)
    return DemoScan(
        name="mni152",
        title="Left hippocampus in the MNI152 brain (T1 MR)",
        image=path,
        prompts=("hippocampus_anterior", "hippocampus_posterior"),
        modality="MR",
        looks_from=(-1.0, 0.55, 0.35),
        surroundings="brain",
        roi=np.array([[-45.0, -48.0, -32.0], [-12.0, -2.0, 6.0]]),
        around=28.0,
    )


def left_atrium(data: Path) -> DemoScan:
    """A late-enhancement MR scan that no pack of ours was trained on."""
    case = _measuring_case(data, "left_atrium")
    return DemoScan(
        name="left_atrium",
        title="Left atrium (late gadolinium enhancement MR)",
        image=data / "left_atrium" / "imagesTr" / f"{case}.nii.gz",
        prompts=("left_atrium",),
        modality="MR",
        looks_from=(-0.35, -1.0, 0.25),
        reference=data / "left_atrium" / "labelsTr" / f"{case}.nii.gz",
        values={"left_atrium": 1},
    )


def abdomen(data: Path) -> DemoScan:
    """An abdominal CT scan that no pack of ours was trained on."""
    case = _measuring_case(data, "pancreas")
    return DemoScan(
        name="abdomen",
        title="Abdominal organs (CT)",
        image=data / "abdomen" / "imagesTr" / f"{case}.nii.gz",
        prompts=tuple(_ABDOMEN),
        modality="CT",
        looks_from=(0.18, 1.0, 0.12),
        surroundings="bones",
        around=60.0,
        reference=data / "abdomen" / "labelsTr" / f"{case}.nii.gz",
        values=_ABDOMEN,
    )


def _measuring_case(data: Path, task: str) -> str:
    """The first case that the protocol keeps for measuring."""
    protocol = json.loads((data / "versemi4.json").read_text(encoding="utf-8"))
    return str(protocol["tasks"][task]["devtest"][0])
