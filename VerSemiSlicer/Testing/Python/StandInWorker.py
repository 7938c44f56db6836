"""A worker that speaks the engine's protocol and thresholds instead of segmenting.

For self tests and for trying the panel where torch is not installed. It needs numpy and SimpleITK
only. Prompt number i of a request becomes the voxels in the i-th of as many equal bands of the
upper half of the intensities. Words in the environment variable VERSEMI_STAND_IN make it behave
in ways that the real one should not: see `main`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

STEPS = 20


def main() -> None:
    # "slow": takes two seconds; "die": ends halfway; "deaf": hears no cancel; "child": starts a
    # child of its own; "fail": answers with an error.
    manner = os.environ.get("VERSEMI_STAND_IN", "").split()
    cancelled: set[int] = set()
    requests: list[dict] = []
    arrived = threading.Condition()

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            with arrived:
                if message["command"] == "cancel":
                    cancelled.add(message["request"])
                else:
                    requests.append(message)
                arrived.notify()
        # The parent has gone, or has closed the pipe.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    if "child" in manner:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        say("progress", id=0, fraction=0.0, message=f"child {child.pid}")
    say("ready", pack="stand-in", version="0", device="cpu")
    while True:
        with arrived:
            while not requests:
                arrived.wait()
            request = requests.pop(0)
        if request["command"] == "quit":
            say("bye")
            return
        if request["command"] == "segment":
            segment(request, manner, cancelled)
        if request["command"] == "keep":
            keep(request, manner)
        if request["command"] == "export":
            export(request)


def say(event: str, **fields) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def segment(request: dict, manner: list[str], cancelled: set[int]) -> None:
    number = request["id"]
    if "fail" in manner:
        say("error", id=number, kind="input", message="The image is of one constant value.")
        return
    for step in range(STEPS):
        if number in cancelled and "deaf" not in manner:
            say("cancelled", id=number)
            return
        if "die" in manner and step == STEPS // 2:
            sys.stderr.write("the stand-in was told to die\n")
            sys.stderr.flush()
            os._exit(3)
        say("progress", id=number, fraction=step / STEPS, message=f"Window {step} of {STEPS}")
        if {"slow", "deaf"} & set(manner):
            time.sleep(0.1)
    image = sitk.ReadImage(request["image"])
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    inside = in_roi(image, request["roi"]) if request["roi"] else np.ones(values.shape, bool)
    low, high = values.min(), values.max()
    edges = np.linspace((low + high) / 2, high, len(request["tasks"]) + 1)
    labels = {task: label_of(task) for task in request["tasks"]}
    label_map = np.zeros(values.shape, np.uint8)
    for task, lower in zip(request["tasks"], edges[:-1], strict=True):
        label_map[(values > lower) & inside] = labels[task]
    folder = Path(request["output"])
    voxel_ml = float(np.prod(image.GetSpacing())) / 1000
    say(
        "result",
        id=number,
        label_map=write(label_map, image, folder / "labels.nrrd"),
        uncertainty=(
            write((label_map > 0).astype(np.float32) / 2, image, folder / "uncertainty.nrrd")
            if request["uncertainty"]
            else None
        ),
        labels=labels,
        volumes_ml={t: float((label_map == labels[t]).sum()) * voxel_ml for t in labels},
        warnings=[],
        timings={"segment": 0.1},
        device="cpu",
    )


def keep(request: dict, manner: list[str]) -> None:
    """Copies the files into the library folder, which is all that a stand-in needs of one."""
    number = request["id"]
    if "fail" in manner:
        say("error", id=number, kind="output", message="The library is on a full disk.")
        return
    library = Path(request["library"])
    library.mkdir(parents=True, exist_ok=True)
    for kind in ("image", "labels", "predicted"):
        if request[kind]:
            sitk.WriteImage(sitk.ReadImage(request[kind]), str(library / f"{kind}.nrrd"))
    prompts = " and ".join(request["prompts"]) or "no label"
    message = f"'{request['name']}' is in the library as case {request['name']}, with {prompts}."
    say("result", id=number, case=request["name"], version=1, message=message)


def export(request: dict) -> None:
    """Writes no DICOM, but a file in its place that says what it would refer to."""
    output = Path(request["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    count = len(request["series"] or ())
    output.write_text(f"{count} images", encoding="utf-8")
    message = f"Wrote {output.name} on {count} images."
    say("result", id=request["id"], files=[str(output)], message=message)


def label_of(task: str) -> int:
    """The engine's label values; for what is not the engine's own, some value above them."""
    try:
        from versemi.tasks import TASKS
    except ImportError:
        TASKS = {}
    return TASKS[task].label if task in TASKS else 100 + sum(task.encode()) % 100


def in_roi(image: sitk.Image, roi: dict) -> np.ndarray:
    size = image.GetSize()
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps = grid @ direction.T + np.array(image.GetOrigin())
    local = (lps * [-1, -1, 1] - np.array(roi["center"])) @ np.array(roi["axes"]).T
    return np.all(np.abs(local) <= np.array(roi["size"]) / 2 + 1e-6, axis=-1).transpose(2, 1, 0)


def write(array: np.ndarray, image: sitk.Image, path: Path) -> str:
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    sitk.WriteImage(result, str(path))
    return str(path)


if __name__ == "__main__":
    main()
