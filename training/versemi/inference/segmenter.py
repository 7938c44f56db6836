"""The one way from a scan and task prompts to a segmentation."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import SimpleITK as sitk

from versemi.errors import Cancelled, InputError
from versemi.geometry import Roi
from versemi.images import check_image, guess_modality
from versemi.inference.device import choose, is_out_of_memory
from versemi.inference.evidence import Evidence
from versemi.inference.localise import Box, corners_of
from versemi.inference.prepared import Answer, PreparedScan, index_box, scan_key
from versemi.inference.result import Segmentation, label_map_of
from versemi.modelpack import ModelPack
from versemi.network import GroupNetworks, channels_last
from versemi.tasks import Task, get_task

IDLE_SECONDS = 600.0
_SMALLEST_SHRINK = 4

Progress = Callable[[float, str], None]
Cancel = Callable[[], bool]


class Segmenter:
    """Segments scans with one model pack, and keeps what it computed for the next prompt.

    Args:
        pack: the model.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        search: whether the coarse pass may narrow down where to look.

    Raises:
        InputError: the device is not there.
        PackError: the weights do not fit.
    """

    def __init__(self, pack: ModelPack, device: str = "auto", *, search: bool = True) -> None:
        self.pack = pack
        self._search = search
        self._compute = choose(device)
        self._networks = self._placed(pack.build_networks())
        self._kept: dict[tuple[object, ...], PreparedScan] = {}
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    @property
    def device(self) -> str:
        """What computes, with its precision."""
        return self._compute.name

    def segment(
        self,
        image: sitk.Image,
        tasks: Sequence[str],
        *,
        roi: Roi | None = None,
        modality: str | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Segmentation:
        """Segment a scan under task prompts.

        Args:
            image: 3D scan, any orientation, intensities in its own units (HU for CT).
            tasks: prompt identifiers.
            roi: where to look and label; everywhere if None.
            modality: ``"CT"`` or ``"MR"`` if it is known; guessed from the intensities if not.
            progress: told a fraction in [0, 1] and a sentence.
            cancel: asked between windows whether to stop.

        Raises:
            InputError: the scan, a prompt or the region cannot be used.
            Cancelled: `cancel` said so.
        """
        tell = progress or _silent
        stop = cancel or _never
        asked = self._asked(tasks)
        clock = _Clock()
        image = check_image(image)
        index_box(image, roi)
        warnings = _mismatches(image, asked, modality)
        tell(0.0, "Reading the scan")
        key = scan_key(image)
        clock.lap("check")
        with self._lock:
            self._rest()
            try:
                answers, evidence = self._answer(
                    key, image, asked, roi, tell, stop, clock, warnings
                )
            finally:
                self._wake_later()
        tell(0.9, "Drawing the label map")
        if stop():
            raise Cancelled("The segmentation was cancelled.")
        values = [(task.label, answers[task.id]) for task in asked]
        labels, counts = label_map_of(values, image, roi)
        label_map = sitk.GetImageFromArray(labels)
        label_map.CopyInformation(image)
        voxel_ml = float(np.prod(image.GetSpacing())) / 1000
        clock.lap("label map")
        tell(1.0, "Done")
        return Segmentation(
            tasks=asked,
            label_map=label_map,
            volumes_ml={task.id: float(counts[task.label]) * voxel_ml for task in asked},
            warnings=warnings,
            timings=clock.laps,
            device=self.device,
            _answers=answers,
            _evidence=evidence,
            _roi=roi,
        )

    def forget(self) -> None:
        """Drop everything that was kept of scans."""
        with self._lock:
            self._kept.clear()
            self._rest()

    def _asked(self, tasks: Sequence[str]) -> tuple[Task, ...]:
        if not tasks:
            known = ", ".join(self.pack.task_ids)
            raise InputError(f"No task prompt was chosen; choose at least one of {known}.")
        # Each once, in label order, so that the order of asking changes nothing.
        chosen = {self.pack.settings(get_task(t).id).task.id for t in tasks}
        return tuple(task for task in self.pack.tasks if task.id in chosen)

    def _answer(
        self,
        key: str,
        image: sitk.Image,
        asked: Sequence[Task],
        roi: Roi | None,
        tell: Progress,
        stop: Cancel,
        clock: _Clock,
        warnings: list[str],
    ) -> tuple[dict[str, Answer], Callable[[], Iterator[Evidence]]]:
        """Probabilities of the asked prompts, group by group, with smaller windows if need be."""
        groups = sorted({task.group for task in asked})
        shrink = 1
        while True:
            try:
                answers: dict[str, Answer] = {}
                places: list[tuple[PreparedScan, list[str], list[str], dict[str, Box]]] = []
                for number, group in enumerate(groups):
                    prompts = [task.id for task in asked if task.group == group]
                    share = _share(tell, 0.9 * number / len(groups), 0.9 / len(groups))
                    scan = self._prepared(key, image, group, roi, shrink, share)
                    clock.lap("prepare")
                    regions = self._look(scan, prompts, share, stop, clock)
                    answers |= {p: scan.answer(p, regions[p]) for p in prompts}
                    clock.lap("heads")
                    every = [t.id for t in self.pack.tasks if t.group == group]
                    places.append((scan, prompts, every, regions))
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shrink = self._make_room(shrink, error, warnings)
        return answers, lambda: (part for place in places for part in _evidence(*place))

    def _prepared(
        self, key: str, image: sitk.Image, group: str, roi: Roi | None, shrink: int, tell: Progress
    ) -> PreparedScan:
        """The kept scan if it is this one, else a new one; other scans are dropped."""
        mine = (key, self.pack.digest, roi)
        for other in [k for k in self._kept if k[:3] != mine]:
            del self._kept[other]
        full = (*mine, group, shrink, self._compute)
        if full not in self._kept:
            tell(0.0, "Preparing the scan")
            network = self._networks.of(group)
            self._kept[full] = PreparedScan(
                image, group, self.pack, network, self._compute, roi, shrink, self._search
            )
        return self._kept[full]

    def _look(
        self,
        scan: PreparedScan,
        prompts: Sequence[str],
        tell: Progress,
        stop: Cancel,
        clock: _Clock,
    ) -> dict[str, Box]:
        """Find where the prompts are and compute the features there."""

        def coarse(done: int, total: int) -> None:
            tell(0.05 + 0.1 * done / total, "Looking for the structures")

        def fine(done: int, total: int) -> None:
            tell(0.15 + 0.75 * done / total, f"Segmenting, window {done} of {total}")

        regions = scan.regions(prompts, coarse, stop)
        clock.lap("search")
        scan.features.compute([regions[p] for p in prompts], fine, stop)
        clock.lap("network")
        return regions

    def _make_room(self, shrink: int, error: BaseException, warnings: list[str]) -> int:
        """After memory ran out: smaller windows, then the CPU.

        Returns:
            What to divide the windows by from now on.
        """
        self._kept.clear()
        if shrink < _SMALLEST_SHRINK:
            warnings.append(
                f"Memory ran out on {self._compute.device.type}; windows of 1/{shrink * 2} the "
                "edge length were used, which may cost some accuracy."
            )
            return shrink * 2
        if self._compute.device.type == "cpu":
            raise InputError(
                "Memory ran out on the CPU even with the smallest windows; close other programs "
                "or choose a region of interest."
            ) from error
        warnings.append(f"Memory ran out on {self._compute.device.type}; the CPU was used.")
        self._compute = choose("cpu")
        # A copy: the pack's weights on the other device are freed with the old network.
        self._networks = self._placed(copy.deepcopy(self._networks))
        return 1

    def _placed(self, networks: GroupNetworks) -> GroupNetworks:
        """Networks where they compute, laid out as they are fastest there."""
        networks = networks.to(self._compute.device)
        return networks.mapped(channels_last) if self._compute.channels_last else networks

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_later(self) -> None:
        self._timer = threading.Timer(IDLE_SECONDS, self.forget)
        self._timer.daemon = True
        self._timer.start()


class _Clock:
    """Seconds spent in each step; a step that comes again adds up."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def _evidence(
    scan: PreparedScan, prompts: Sequence[str], every: Sequence[str], regions: dict[str, Box]
) -> Iterator[Evidence]:
    """What was seen in each region of the asked prompts, a region at a time."""
    for region in {corners_of(regions[p]): regions[p] for p in prompts}.values():
        probabilities, foreground = scan.group_answers(every, region)
        yield Evidence(
            grid=scan.grid.part([s.start for s in region], [s.stop for s in region]),
            asked=tuple(p for p in prompts if regions[p] == region),
            prompts=tuple(every),
            probabilities=probabilities,
            foreground=foreground,
            bottleneck=scan.features.pooled(region),
        )


def _mismatches(image: sitk.Image, asked: Sequence[Task], modality: str | None) -> list[str]:
    seen = modality or guess_modality(image)
    wrong = [task.name for task in asked if task.modality != seen]
    if not wrong:
        return []
    how = "is" if modality else "looks like"
    learnt = "CT" if seen == "MR" else "MR"
    return [
        f"The scan {how} {seen}, but {', '.join(wrong)} was learnt on {learnt}; the result may "
        "mean nothing."
    ]


def _share(tell: Progress, start: float, length: float) -> Progress:
    return lambda fraction, sentence: tell(start + length * fraction, sentence)


def _silent(fraction: float, sentence: str) -> None:
    return None


def _never() -> bool:
    return False
