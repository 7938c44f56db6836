"""The scan that everything is timed on: 512 x 512 x 150 voxels of an abdomen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (512, 512, 150)

# Centre, half axes (mm, in LPS around the middle of the body) and HU of the phantom's parts;
# later ones lie over earlier ones.
_PARTS = (
    ((0, 0, 0), (170, 120, 400), 40),
    ((0, 75, 0), (22, 24, 400), 300),
    ((-75, -15, 40), (70, 75, 65), 110),
    ((85, 40, 55), (30, 45, 45), 120),
    ((-60, 55, -30), (25, 28, 50), 160),
    ((60, 55, -20), (25, 28, 50), 160),
    ((50, -35, 45), (45, 35, 40), 30),
    ((0, 45, 0), (11, 11, 400), 180),
    ((-28, 45, 0), (12, 10, 400), 140),
    ((15, -5, 10), (60, 14, 14), 90),
)


def make(path: Path) -> str:
    """Write the scan (int16, HU) and return in words what it is."""
    data = Path(os.environ.get("VERSEMI_DATA") or REPOSITORY.parent / "shared" / "data")
    protocol = data / "versemi4.json"
    if protocol.is_file():
        tasks = json.loads(protocol.read_text(encoding="utf-8"))["tasks"]
        case = tasks["spleen"]["devtest"][0]
        scan = sitk.ReadImage(str(data / "abdomen" / "imagesTr" / f"{case}.nii.gz"))
        image, what = _resampled(scan), f"a real abdominal CT ({case})"
    else:
        image, what = _phantom(), "a phantom of ellipsoids, for want of the research data"
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    size = " x ".join(str(n) for n in image.GetSize())
    spacing = " x ".join(f"{s:.2f}" for s in image.GetSpacing())
    return f"{what} on a grid of {size} voxels of {spacing} mm"


def _resampled(scan: sitk.Image) -> sitk.Image:
    """The same scan on the larger grid, outer edge on outer edge."""
    size, spacing = np.array(scan.GetSize()), np.array(scan.GetSpacing())
    finer = size * spacing / SIZE
    direction = np.reshape(scan.GetDirection(), (3, 3))
    origin = scan.GetOrigin() + direction @ ((finer - spacing) / 2)
    return sitk.Cast(
        sitk.Resample(
            scan,
            list(SIZE),
            sitk.Transform(),
            sitk.sitkLinear,
            origin.tolist(),
            finer.tolist(),
            scan.GetDirection(),
            -1000.0,
            sitk.sitkFloat32,
            True,
        ),
        sitk.sitkInt16,
    )


def _phantom() -> sitk.Image:
    spacing = np.array([0.75, 0.75, 3.0])
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(SIZE, spacing, strict=True)]
    voxels = np.full(SIZE[::-1], -1000, np.int16)
    for center, half, value in _PARTS:
        x, y, z = (((axis - c) / h) ** 2 for axis, c, h in zip(axes, center, half, strict=True))
        voxels[z[:, None, None] + y[:, None] + x < 1] = value
    noise = np.random.default_rng(0).normal(0, 12, voxels.shape)
    image = sitk.GetImageFromArray(voxels + np.asarray(noise, np.int16))
    image.SetSpacing(spacing.tolist())
    return image
