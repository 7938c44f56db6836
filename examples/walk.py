"""The loop on the module's real panel: segment, look, correct, keep, use what was learnt, export.

The panel runs as in Slicer, with its own logics, a real worker and a real case library; Qt and MRML
are real, the desktop around them is not there. What a user does by hand is done here by clicks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Without a screen there is much that Qt cannot do, and says.
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")

from scans import REPOSITORY

for folder in ("Testing", "Testing/SlicerModule"):
    sys.path.insert(0, str(REPOSITORY / folder))

import numpy as np  # noqa: E402

from SlicerRuntime import start  # noqa: E402

slicer = start()

from desk import Desk  # noqa: E402

from SlicerRuntime import widgets  # noqa: E402
from strokes import ball, edge_near, erase, mask_of, paint  # noqa: E402
from surfaces import Camera, render  # noqa: E402
from surroundings import segment_surface  # noqa: E402
from tiles import Scan  # noqa: E402
from versemi.tasks import get_task  # noqa: E402
from VerSemiSlicerLib import ModuleLogic, Segments, VolumeInput  # noqa: E402
from VerSemiSlicerLib.Errors import UserError  # noqa: E402
from VerSemiSlicerLib.ExportFormat import ExportFormat  # noqa: E402
from VerSemiSlicerLib.SegmentationResult import SegmentationResult  # noqa: E402

_PATIENCE = 600.0
_VIEWS = ("Red", "Yellow", "Green")


@dataclass(frozen=True)
class Answer:
    """What a model has answered on a volume.

    Attributes:
        scan: the volume.
        labels: label values ``(k, j, i)``.
        volumes_ml: by name of the segment.
        model: its title.
    """

    scan: Scan
    labels: np.ndarray
    volumes_ml: dict[str, float]
    model: str


@dataclass(frozen=True)
class Doubt:
    """A doubtful place as the views show it.

    Attributes:
        ras: where the slice views stand.
        sentence: what the panel says.
        overlay: the uncertainty ``(k, j, i)``, which the views lay over the scan.
        opacity: of the overlay in the views.
    """

    ras: tuple[float, float, float]
    sentence: str
    overlay: np.ndarray
    opacity: float


@dataclass(frozen=True)
class Stroke:
    """One made-up stroke: what it did to the labels ``(k, j, i)``, and where."""

    what: str
    ras: tuple[float, float, float]
    before: np.ndarray
    after: np.ndarray


class Walk:
    """One user at the panel.

    Args:
        prompts: what is segmented.

    Raises:
        UserError: the model in use is of no use.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._application = widgets.install()
        slicer.mrmlScene.Clear(0)
        self._add_views()
        self._model = ModuleLogic.makeModel()
        self.desk = Desk(self._model, ModuleLogic.makeLogic(self._model), self._application)
        self.prompts = self._model.catalog.inOrder(prompts)

    def close(self) -> None:
        """End the worker, and put the panel away."""
        self.desk.panel.cleanup()
        self.desk.widget.deleteLater()
        self._application.processEvents()

    @property
    def model(self) -> str:
        """Title of the model that answers."""
        return self._model.model.title

    @property
    def colors(self) -> dict[int, tuple[float, float, float]]:
        """Colour of each prompt's label value."""
        tasks = [get_task(prompt) for prompt in self.prompts]
        return {t.label: (t.color[0] / 255, t.color[1] / 255, t.color[2] / 255) for t in tasks}

    # -- the steps -----------------------------------------------------------------------------

    def segment(self, image: Path, uncertainty: bool = False) -> Answer:
        """Load a scan, choose the prompts, press Segment."""
        volume = slicer.util.loadVolume(str(image))
        parameters = self.desk.parameters
        parameters.inputVolume = volume
        parameters.outputSegmentation = None
        parameters.uncertaintyVolume = None
        for prompt in self.prompts:
            self.desk.check(prompt)
        self.desk.ui.uncertaintyCheckBox.setChecked(uncertainty)
        results: list[SegmentationResult] = []
        self.desk.panel.logic.finished.connect(results.append)
        try:
            self._click(self.desk.ui.segmentButton)
        finally:
            self.desk.panel.logic.finished.disconnect(results.append)
        self._application.processEvents()
        volumes = {row.name: row.volumeMl for row in results[0].rows}
        return Answer(self._scan(), self.labels(), volumes, self.model)

    def next_doubt(self) -> Doubt | None:
        """Press *Next doubtful place*; None where the model was sure wherever it looked."""
        self.desk.unfold("correctionSection")
        self._click(self.desk.ui.nextPlaceButton)
        correction = self.desk.correction.logic
        if not correction.isUncertaintyShown():
            self._click(self.desk.ui.showUncertaintyButton)
        overlay = slicer.util.arrayFromVolume(self.desk.parameters.uncertaintyVolume)
        sentence = self.desk.ui.placeLabel.text()
        if sentence == correction.noneLeft():
            return None
        composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
        return Doubt(self._position(), sentence, overlay.copy(), composite.GetForegroundOpacity())

    def edges_apart(self, one: Sequence[float], other: Sequence[float]) -> float:
        """How far apart, in mm, strokes near two places would be."""
        node, volume = self.desk.parameters.outputSegmentation, self.desk.parameters.inputVolume
        ids = Segments.segmentIds(node)
        middles = [edge_near(node, ids, volume, place)[1] for place in (one, other)]
        return float(np.linalg.norm(np.subtract(middles[0], middles[1])))

    def correct(self, places: Sequence[tuple[float, float, float]]) -> list[Stroke]:
        """Paint near the first place, erase near the second, and mark all segments as reviewed.

        A stroke is centred on the voxel of a segment that is closest to its place.
        """
        node, volume = self.desk.parameters.outputSegmentation, self.desk.parameters.inputVolume
        ids = Segments.segmentIds(node)
        strokes = []
        for what, place, edit in zip(("painted", "erased"), places, (paint, erase), strict=True):
            before = self.labels()
            segment_id, middle = edge_near(node, ids, volume, place)
            self.desk.correction.select(segment_id)
            edit(node, segment_id, volume, ball(volume, middle))
            strokes.append(Stroke(what, middle, before, self.labels()))
        for segment_id in ids:
            self.desk.correction.select(segment_id)
            self._click(self.desk.ui.reviewedCheckBox)
        # The editor's own list shows the status, too.
        self.desk.editor.updateWidgetFromMRML()
        return strokes

    def keep(self, library: Path) -> str:
        """Press *Add corrected case*; returns what the panel says."""
        self.desk.unfold("librarySection")
        self.desk.ui.libraryFolderEdit.setCurrentPath(str(library))
        self._click(self.desk.ui.addCorrectedButton)
        return str(self.desk.ui.libraryLabel.text())

    def look_for_model(self) -> str:
        """Come back to the panel, which takes the model that is chosen now; returns its title."""
        self.desk.panel.exit()
        self.desk.panel.enter()
        return self.model

    def export(self, folder: Path) -> list[str]:
        """Press *Export* for a NIfTI label map; returns the names of the files."""
        self.desk.unfold("exportSection")
        self.desk.parameters.exportFormat = ExportFormat.NIFTI
        self.desk.ui.exportFolderEdit.setCurrentPath(str(folder))
        self._click(self.desk.ui.exportButton)
        return sorted(path.name for path in folder.iterdir())

    # -- what there is to see ------------------------------------------------------------------

    def labels(self) -> np.ndarray:
        """The segments as MRML holds them, as one label map ``(k, j, i)``."""
        node, volume = self.desk.parameters.outputSegmentation, self.desk.parameters.inputVolume
        labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        for prompt in self.prompts:
            segment_id = Segments.ownSegment(node, prompt)
            if segment_id is not None:
                labels[mask_of(node, segment_id, volume)] = get_task(prompt).label
        return labels

    def grab(self, section: str, path: Path) -> None:
        """Write a picture of one section of the panel, twice as sharp as the screen."""
        widget = getattr(self.desk.ui, section)
        # High enough for all that is unfolded.
        self.desk.widget.resize(440, self.desk.widget.sizeHint().height())
        self._application.processEvents()
        from PySide6.QtCore import QPoint
        from PySide6.QtGui import QColor, QPixmap

        pixmap = QPixmap(2 * widget.size())
        pixmap.setDevicePixelRatio(2.0)
        pixmap.fill(QColor(widget.palette().window().color()))
        widget.render(pixmap, QPoint())
        path.parent.mkdir(parents=True, exist_ok=True)
        if not pixmap.save(str(path)):
            raise UserError(f"The picture {path} could not be written; check the folder.")

    # -- below the panel -----------------------------------------------------------------------

    def _click(self, button: Any) -> None:
        """Click, wait until the worker rests, and raise UserError where the panel has told one."""
        if not button.isEnabled():
            raise UserError(button.toolTip())
        told = len(self.desk.dialogs.errors)
        button.click()
        self.desk.wait_until(lambda: not self.desk.panel.logic.link.isBusy, _PATIENCE)
        self._application.processEvents()
        if len(self.desk.dialogs.errors) > told:
            raise UserError(self.desk.dialogs.errors[-1])

    def _scan(self) -> Scan:
        volume = self.desk.parameters.inputVolume
        return Scan(slicer.util.arrayFromVolume(volume).copy(), VolumeInput.ijkToRas(volume))

    @staticmethod
    def _add_views() -> None:
        """Slice views as the desktop has them, without windows."""
        for name in _VIEWS:
            for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
                node = slicer.mrmlScene.AddNewNodeByClass(kind)
                node.SetName(name)
                node.SetLayoutName(name)

    @staticmethod
    def _position() -> tuple[float, float, float]:
        """Where the slice views stand, RAS in mm."""
        matrix = slicer.util.getNodesByClass("vtkMRMLSliceNode")[0].GetSliceToRAS()
        r, a, s = (float(matrix.GetElement(row, 3)) for row in range(3))
        return r, a, s


def surface_picture(user: Walk, size: tuple[int, int] = (600, 600)) -> np.ndarray:
    """The segments' surfaces as MRML makes them, ``(H, W, 3)`` in 0..1."""
    node = user.desk.parameters.outputSegmentation
    node.CreateClosedSurfaceRepresentation()
    surfaces = [
        segment_surface(node, Segments.ownSegment(node, prompt), color)
        for prompt, color in zip(user.prompts, user.colors.values(), strict=True)
    ]
    return render(surfaces, Camera((-1.0, 0.55, 0.35)), (0.067, 0.09, 0.125), size)
