"""What VerSemi is compared with, on the same CPU: five windows are timed, the rest is reckoned.

Both would take hours. Only their windows are reckoned; reading, resampling and writing, which
they need as well, are given to them for nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

WINDOWS = 5


def sliding_vnet(scan: sitk.Image, prompts: int) -> dict[str, Any]:
    """MONAI's sliding window with the published V-Net at 1 mm, one full pass per prompt.

    Window 96 x 96 x 96 and stride 16 x 16 x 4 as published (UA-MT and those who follow it).
    """
    from monai.data.utils import dense_patch_slices
    from monai.inferers import sliding_window_inference

    from versemi.network import NetworkSettings, build_network
    from versemi.tasks import TASKS

    window, stride = (96, 96, 96), (16, 16, 4)
    network = build_network(NetworkSettings(tuple(TASKS), backbone="vnet", features=8)).eval()
    code = torch.tensor([0])
    # Along the last axis, where the stride is 4: five windows exactly.
    crop = torch.rand(1, 1, 96, 96, 96 + (WINDOWS - 1) * stride[2])

    def run(image: torch.Tensor) -> None:
        sliding_window_inference(
            image,
            window,
            1,
            lambda batch: network(batch, code),
            overlap=[1 - s / w for s, w in zip(stride, window, strict=True)],
            mode="gaussian",
        )

    seconds = _timed(run, crop, crop[..., :96])
    shape = [round(n * s) for n, s in zip(scan.GetSize(), scan.GetSpacing(), strict=True)]
    padded = [max(n, w) for n, w in zip(shape, window, strict=True)]
    count = len(dense_patch_slices(padded, window, stride))
    return {
        "what": "MONAI sliding window, published V-Net, float32, one pass per prompt",
        "spacing_mm": [1.0, 1.0, 1.0],
        "window": list(window),
        "stride": list(stride),
        "grid": shape,
        "seconds_for_five_windows": seconds,
        "windows": count,
        "passes": prompts,
        "extrapolated_seconds_one": seconds / WINDOWS * count,
        "extrapolated_seconds_all": seconds / WINDOWS * count * prompts,
    }


def nnunet(scan: sitk.Image, prompts: int) -> dict[str, Any]:
    """nnU-Net v2's predictor with what its own planner plans for scans like this one.

    Default planner, configuration 3d_fullres, random weights, no mirroring. One pass answers all
    organs, so one prompt costs what all cost.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        plans, dataset = _plan(Path(folder), scan, prompts)
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(plans)
        configuration = manager.get_configuration("3d_fullres")
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            1,
            prompts + 1,
            deep_supervision=False,
        )
        predictor = nnUNetPredictor(
            use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.manual_initialization(
            network, manager, configuration, None, dataset, "nnUNetTrainer", None
        )
        patch = [int(n) for n in configuration.patch_size]
        # Half a patch of stride: three patches in a row hold five windows.
        crop = torch.rand(1, 3 * patch[0], patch[1], patch[2])
        if len(predictor._internal_get_sliding_window_slicers(crop.shape[1:])) != WINDOWS:
            raise RuntimeError("nnU-Net's predictor lays its windows in another way than expected.")
        seconds = _timed(predictor.predict_sliding_window_return_logits, crop, crop[:, : patch[0]])
        spacing = [float(s) for s in configuration.spacing]
        target = np.array(scan.GetSpacing())[::-1] * scan.GetSize()[::-1]
        shape = [round(mm / s) for mm, s in zip(target, spacing, strict=True)]
        padded = [max(n, p) for n, p in zip(shape, patch, strict=True)]
        count = len(predictor._internal_get_sliding_window_slicers(tuple(padded)))
    return {
        "what": "nnU-Net v2, default planner, 3d_fullres, float32, random weights, no mirroring",
        "spacing_mm": spacing[::-1],
        "window": patch[::-1],
        "stride": [p // 2 for p in patch[::-1]],
        "grid": shape[::-1],
        "seconds_for_five_windows": seconds,
        "windows": count,
        "passes": 1,
        "extrapolated_seconds_one": seconds / WINDOWS * count,
        "extrapolated_seconds_all": seconds / WINDOWS * count,
    }


def _timed(run: Callable[[torch.Tensor], object], image: torch.Tensor, warm: torch.Tensor) -> float:
    """Seconds for an image, after one window to warm up."""
    with torch.inference_mode():
        run(warm)
        started = time.perf_counter()
        run(image)
    return time.perf_counter() - started


def _plan(folder: Path, scan: sitk.Image, organs: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let nnU-Net plan for a data set of 30 scans like this one, as many as BTCV has."""
    name = "Dataset001_Abdomen"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / variable / name).mkdir(parents=True)
        os.environ[variable] = str(folder / variable)
    raw = folder / "nnUNet_raw" / name
    count = 30
    for part, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (raw / part).mkdir()
        for number in range(count):
            (raw / part / f"case{number:02}{suffix}.nii.gz").touch()
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"organ{n}": n for n in range(1, organs + 1)}},
        "numTraining": count,
        "file_ending": ".nii.gz",
        # Named, so that the planner opens none of the empty files.
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    statistics = {
        "max": 275.0,
        "mean": 80.0,
        "median": 80.0,
        "min": -125.0,
        "percentile_00_5": -100.0,
        "percentile_99_5": 260.0,
        "std": 60.0,
    }
    fingerprint = {
        "spacings": [list(scan.GetSpacing())[::-1]] * count,
        "shapes_after_crop": [list(scan.GetSize())[::-1]] * count,
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    preprocessed = folder / "nnUNet_preprocessed" / name
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    return ExperimentPlanner(name).plan_experiment(), dataset
