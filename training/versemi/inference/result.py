"""What a segmentation gives back, on the input's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from versemi.errors import InputError
from versemi.geometry import Grid, Header, Roi, bounding_box
from versemi.inference.evidence import Evidence
from versemi.inference.localise import Box, box_of
from versemi.inference.prepared import Answer
from versemi.preprocessing import resample_back
from versemi.tasks import Task

_SLAB = 48


@dataclass
class Segmentation:
    """A label map with what stands behind it.

    Attributes:
        tasks: the asked prompts.
        label_map: uint8 on the input's grid; a voxel holds the label value of its prompt.
        volumes_ml: volume of each prompt's voxels in millilitres, by identifier.
        warnings: sentences for the user.
        timings: seconds, by step.
        device: what computed it.
    """

    tasks: tuple[Task, ...]
    label_map: sitk.Image
    volumes_ml: dict[str, float]
    warnings: list[str]
    timings: dict[str, float]
    device: str
    _answers: dict[str, Answer] = field(repr=False)
    _evidence: Callable[[], Iterator[Evidence]] = field(repr=False)
    _roi: Roi | None = None

    def probability(self, task_id: str) -> sitk.Image:
        """The probability of an asked prompt: float32 in [0, 1] on the input's grid.

        Raises:
            InputError: the prompt was not asked.
        """
        if task_id not in self._answers:
            asked = ", ".join(self._answers)
            raise InputError(f"The prompt '{task_id}' was not asked; asked were {asked}.")
        return on_grid([self._answers[task_id]], self.label_map, self._roi)

    def uncertainty(self) -> sitk.Image:
        """Doubt about the label map: float32 in [0, 1] on the input's grid, 0 where not looked.

        ``1 - (1 - H) (1 - g)^2`` of two doubts. H is the binary entropy, in bits, of the most
        probable asked prompt, averaged with that of its probability around the voxel (a Gaussian
        with a standard deviation of one voxel of the network's grid). g is the gap between the
        most probable prompt of the group and *foreground*, which should agree (VerSemi, arXiv
        2311.11686, section III-C).
        """
        doubts = [Answer(part.grid, part.uncertainty()) for part in self.evidence()]
        return on_grid(doubts, self.label_map, self._roi)

    def entropy(self) -> sitk.Image:
        """Binary entropy, in bits, of the most probable asked prompt, on the same grid."""
        doubts = [Answer(part.grid, part.entropy()) for part in self.evidence()]
        return on_grid(doubts, self.label_map, self._roi)

    def evidence(self) -> Iterator[Evidence]:
        """What the network says in each region that was looked at, before any clean-up."""
        return self._evidence()


def label_map_of(
    answers: Sequence[tuple[int, Answer]], image: sitk.Image, roi: Roi | None
) -> tuple[np.ndarray, np.ndarray]:
    """Give every voxel to the most probable answer above one half.

    Args:
        answers: label values with probabilities.
        image: the scan, for its grid.
        roi: no voxel outside it is labelled.

    Returns:
        uint8 ``(z, y, x)`` on the scan's grid, and how many voxels have each value, ``(256,)``.
        Works in slabs: no float array of the scan's size is ever made.
    """
    header = Header.of(image)
    labels = np.zeros(image.GetSize()[::-1], dtype=np.uint8)
    counts = np.zeros(256, dtype=np.int64)
    close = [(value, part) for value, answer in answers if (part := _above_half(answer))]
    for start in range(0, header.size[2], _SLAB):
        stop = min(start + _SLAB, header.size[2])
        boxes = [(value, part, _index_box(part, header, start, stop)) for value, part in close]
        touched = [(value, part, box) for value, part, box in boxes if box is not None]
        if not touched:
            continue
        union = _union([box for _, _, box in touched])
        best = np.full([s.stop - s.start for s in union], 0.5, dtype=np.float32)
        for value, part, box in touched:
            probability = _answer_in(part, header, box)
            z, y, x = (
                slice(s.start - u.start, s.stop - u.start) for s, u in zip(box, union, strict=True)
            )
            won = probability > best[z, y, x]
            best[z, y, x][won] = probability[won]
            labels[box][won] = value
        if roi is not None:
            _blank_outside(labels, header, roi, union)
        counts += np.bincount(labels[union].ravel(), minlength=256)
    counts[0] = labels.size - counts[1:].sum()
    return labels, counts


def _above_half(answer: Answer) -> Answer | None:
    """The part of an answer beyond which interpolation cannot reach one half."""
    box = bounding_box(answer.probability > 0.5, margin=(1, 1, 1))
    if box is None:
        return None
    grid = answer.grid.part([s.start for s in box], [s.stop for s in box])
    return Answer(grid, answer.probability[box])


def _union(boxes: Sequence[Box]) -> Box:
    z, y, x = (
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes))
        for axis in range(3)
    )
    return z, y, x


def on_grid(answers: Sequence[Answer], image: sitk.Image, roi: Roi | None) -> sitk.Image:
    """The largest of several answers at every voxel, float32 on the grid of `image`."""
    header = Header.of(image)
    values = np.zeros(image.GetSize()[::-1], dtype=np.float32)
    for answer in answers:
        for start in range(0, header.size[2], _SLAB):
            box = _index_box(answer, header, start, min(start + _SLAB, header.size[2]))
            if box is not None:
                np.maximum(values[box], _answer_in(answer, header, box), out=values[box])
    if roi is not None:
        whole = (slice(0, header.size[2]), slice(0, header.size[1]), slice(0, header.size[0]))
        _blank_outside(values, header, roi, whole)
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def _index_box(answer: Answer, header: Header, start: int, stop: int) -> Box | None:
    """The scan's voxels in a slab of planes that an answer can reach, ``(z, y, x)``."""
    inverse = np.linalg.inv(header.index_to_lps)
    index = answer.grid.corners() @ inverse[:3, :3].T + inverse[:3, 3]
    size = (header.size[0], header.size[1], header.size[2])
    unit = Grid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size)
    box = box_of(index.min(axis=0), index.max(axis=0), unit)
    if box is None:
        return None
    z = slice(max(box[0].start, start), min(box[0].stop, stop))
    return (z, box[1], box[2]) if z.start < z.stop else None


def _answer_in(answer: Answer, header: Header, box: Box) -> np.ndarray:
    first = np.array([box[2].start, box[1].start, box[0].start, 1.0])
    origin = (header.index_to_lps @ first)[:3]
    size = tuple(s.stop - s.start for s in reversed(box))
    part = Header(size, header.spacing, tuple(float(v) for v in origin), header.direction)
    return resample_back(answer.probability, answer.grid, part)


def _blank_outside(values: np.ndarray, header: Header, roi: Roi, box: Box) -> None:
    """Set voxels of a box whose centre lies outside the region to 0, plane by plane."""
    x, y = np.meshgrid(np.arange(box[2].start, box[2].stop), np.arange(box[1].start, box[1].stop))
    matrix = header.index_to_lps
    for z in range(box[0].start, box[0].stop):
        index = np.stack([x, y, np.full_like(x, z)], axis=-1)
        points = index @ matrix[:3, :3].T + matrix[:3, 3]
        values[z, box[1], box[2]][~roi.contains_lps(points)] = 0
