"""Tests that run inside Slicer: with Reload and Test, and as a CTest of the extension's build.

They use the stand-in worker, so they need neither torch nor the model's weights, and change
nothing in the user's Python.
"""

import sys
import time
from typing import Any

import slicer

from . import Locations


class AgreeingInstaller:
    """Has everything."""

    def ensure(self) -> bool:
        return True


class ForgetfulSettings:
    """Leaves the user's own settings alone."""

    def text(self, key: str) -> str:
        return ""

    def setText(self, key: str, value: str) -> None:
        """Nothing is kept."""


class RecordingDialogs:
    """Opens no window, which nobody would close."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def confirm(self, text: str, title: str) -> bool:
        return True

    def error(self, text: str, detail: str = "") -> None:
        self.errors.append(text)


def _read(widget: Any, name: str) -> Any:
    """A widget's property, in PythonQt and in PySide."""
    return widget.property(name)


class SelfTests:
    """Test methods for a ScriptedLoadableModuleTest; the module's own script mixes them in."""

    panel: Any
    frame: Any
    parameters: Any
    dialogs: RecordingDialogs
    manner: str

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.panel = None

    def tearDown(self) -> None:
        if self.panel is not None:
            self.panel.cleanup()
            self.frame.deleteLater()
        slicer.mrmlScene.Clear()

    def test_the_module_opens(self) -> None:
        slicer.util.selectModule("VerSemiSlicer")
        widget = slicer.modules.versemislicer.widgetRepresentation().self()
        assert widget.panel is not None, "engine or model pack are missing"
        assert widget.logic is widget.panel.logic

    def test_the_prompts_come_from_the_model_pack(self) -> None:
        from .ModelInUse import shippedModel

        model = shippedModel()
        assert {"spleen", "left_atrium"} <= {task.id for task in model.tasks}
        assert model.name and model.version

    def test_a_click_segments_a_volume_under_a_transform(self) -> None:
        volumeNode = self._addVolume()
        self._openPanel("")
        self._ask(volumeNode, ["spleen", "liver"])
        self.parameters.makeUncertainty = True

        self.panel.ui.segmentButton.click()
        self._waitUntilIdle()

        assert self.dialogs.errors == [], self.dialogs.errors
        node = self.parameters.outputSegmentation
        assert node.GetParentTransformNode() is volumeNode.GetParentTransformNode()
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "liver", volumeNode)
        expected = slicer.util.arrayFromVolume(volumeNode) > -100
        assert (array == expected).all()
        assert node.GetSegmentation().GetSegment("spleen").GetName() == "Spleen"
        assert self.parameters.uncertaintyVolume is not None
        assert _read(self.panel.ui.resultsTable, "rowCount") == 2

    def test_cancel_leaves_the_scene_as_it_was(self) -> None:
        volumeNode = self._addVolume()
        self._openPanel("slow")
        self._ask(volumeNode, ["liver"])

        self.panel.ui.segmentButton.click()
        self._waitUntil(lambda: _read(self.panel.ui.progressBar, "value") > 5)
        self.panel.ui.segmentButton.click()
        self._waitUntilIdle()

        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
        assert _read(self.panel.ui.segmentButton, "text") == "Segment"

    def test_a_worker_that_dies_is_told_and_replaced(self) -> None:
        volumeNode = self._addVolume()
        self._openPanel("die")
        self._ask(volumeNode, ["liver"])

        self.panel.ui.segmentButton.click()
        self._waitUntilIdle()
        assert len(self.dialogs.errors) == 1, self.dialogs.errors

        self.manner = ""
        self.panel.ui.segmentButton.click()
        self._waitUntilIdle()
        assert self.parameters.outputSegmentation is not None

    def test_closing_the_scene_ends_the_worker(self) -> None:
        volumeNode = self._addVolume()
        self._openPanel("slow")
        self._ask(volumeNode, ["liver"])
        self.panel.ui.segmentButton.click()
        self._waitUntil(lambda: _read(self.panel.ui.progressBar, "value") > 0)
        worker = self.panel.logic.worker

        self.panel.sceneAboutToClose()

        assert not worker.isRunning()
        assert not self.panel.logic.isRunning

    def test_the_segment_editor_gets_the_result_and_keeps_its_hands_off_when_folded(self) -> None:
        volumeNode = self._addVolume()
        self._segment(volumeNode, ["spleen", "liver"])
        correction = self.panel.sections[0]
        assert correction.editor.segmentationNode() is self.parameters.outputSegmentation
        assert correction.editor.sourceVolumeNode() is volumeNode
        assert correction.editor.currentSegmentID() == "spleen"
        assert correction.editor.mrmlSegmentEditorNode().GetSingletonTag() == "VerSemiSlicer"

        self.panel.ui.correctionSection.setCollapsed(False)
        self.panel.ui.reviewedCheckBox.click()
        self.panel.ui.correctionSection.setCollapsed(True)

        segment = self.parameters.outputSegmentation.GetSegmentation().GetSegment("spleen")
        status = slicer.vtkSlicerSegmentationsModuleLogic
        assert status.GetSegmentStatus(segment) == status.Completed

    def test_the_uncertainty_is_shown_visited_and_taken_away(self) -> None:
        self._segment(self._addVolume(), ["liver"], makeUncertainty=True)
        ui = self.panel.ui
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        doubt = self.parameters.uncertaintyVolume.GetID()
        assert all(node.GetForegroundVolumeID() == doubt for node in composites)

        said = []
        while len(said) < 10 and not (said and "been visited" in said[-1]):
            ui.nextPlaceButton.click()
            said.append(str(_read(ui.placeLabel, "text")))
        assert said[0].startswith("Doubtful place 1 of"), said
        assert len(said) < 10, said

        if composites:
            ui.showUncertaintyButton.click()
        assert not any(node.GetForegroundVolumeID() == doubt for node in composites)

    def test_a_corrected_case_goes_to_the_worker_and_segments_to_files(self) -> None:
        import tempfile
        from pathlib import Path

        volumeNode = self._addVolume()
        self._segment(volumeNode, ["liver"])
        ui = self.panel.ui
        ui.reviewedCheckBox.click()
        with tempfile.TemporaryDirectory(prefix="VerSemi-") as name:
            folder = Path(name)
            ui.libraryFolderEdit.setCurrentPath(str(folder / "library"))
            ui.addCorrectedButton.click()
            self._waitUntilIdle()
            assert self.dialogs.errors == [], self.dialogs.errors
            assert (folder / "library" / "labels.nrrd").is_file()

            ui.exportFolderEdit.setCurrentPath(str(folder / "export"))
            ui.exportButton.click()
            (path,) = (folder / "export").iterdir()
            loaded = slicer.util.loadSegmentation(str(path))
        # The file has the transform in it, and the volume is put where it is in the world.
        expected = slicer.util.arrayFromVolume(volumeNode) > -400
        volumeNode.HardenTransform()
        found = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "liver", volumeNode)
        assert ((found > 0) == expected).all()
        assert loaded.GetSegmentation().GetSegment("liver").GetName() == "Liver"

    # -- the ground they stand on --------------------------------------------------------------

    @staticmethod
    def _addVolume() -> Any:
        import numpy as np

        values = np.full((20, 24, 28), -1000, np.int16)
        values[5:15, 6:18, 8:20] = -200
        values[8:12, 9:14, 11:16] = 200
        volumeNode = slicer.util.addVolumeFromArray(values, name="Block")
        volumeNode.SetSpacing(0.8, 0.9, 2.5)
        transformNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.array([[0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1.0]])
        transformNode.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        volumeNode.SetAndObserveTransformNodeID(transformNode.GetID())
        return volumeNode

    def _openPanel(self, manner: str) -> None:
        """The real panel in a window of its own, over the stand-in worker."""
        import qt

        from .ModelInUse import Model, ModelInUse
        from .ModuleLogic import makeLogic
        from .PanelSetup import Surroundings, makePanel
        from .ParameterNode import ParameterNode
        from .WorkerLink import WorkerLink

        Locations.makeEngineImportable()
        from versemi.tasks import FOREGROUND, TASKS

        self.manner = manner
        self.dialogs = RecordingDialogs()
        tasks = tuple(task for task in TASKS.values() if task.id != FOREGROUND)
        model = ModelInUse(lambda: Model(Locations.MODULE_FOLDER, "self test", "1", tasks))
        model.refresh()
        self.frame = qt.QWidget()
        layout = qt.QVBoxLayout(self.frame)
        uiWidget = slicer.util.loadUI(str(Locations.resourcePath("UI", "VerSemiSlicer.ui")))
        layout.addWidget(uiWidget)
        settingsNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
        self.parameters = ParameterNode(settingsNode)  # type: ignore[call-arg]
        installer = AgreeingInstaller()
        self.panel = makePanel(
            uiWidget,
            model,
            makeLogic(model, WorkerLink(self._startStandIn)),
            lambda: self.parameters,
            Surroundings(
                dialogs=self.dialogs,
                settings=ForgetfulSettings(),
                installer=installer,
                dicomInstaller=installer,
            ),
        )
        self.frame.show()
        self.panel.enter()

    def _segment(self, volumeNode: Any, prompts: list[str], makeUncertainty: bool = False) -> None:
        """A finished run in an open panel."""
        self._openPanel("")
        self._ask(volumeNode, prompts)
        self.parameters.makeUncertainty = makeUncertainty
        self.panel.ui.segmentButton.click()
        self._waitUntilIdle()
        assert self.dialogs.errors == [], self.dialogs.errors

    def _startStandIn(self, device: str) -> Any:
        from .WorkerCommand import WorkerCommand
        from .WorkerProcess import WorkerProcess

        script = Locations.MODULE_FOLDER / "Testing" / "Python" / "StandInWorker.py"
        command = WorkerCommand(
            script=(str(script),), environment={"VERSEMI_STAND_IN": self.manner}
        )
        return WorkerProcess(command.line(script.parent, device), command.fullEnvironment())

    def _ask(self, volumeNode: Any, prompts: list[str]) -> None:
        self.parameters.inputVolume = volumeNode
        self.parameters.prompts = prompts

    def _waitUntilIdle(self) -> None:
        self._waitUntil(lambda: not self.panel.logic.link.isBusy)

    def _waitUntil(self, condition: Any, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; {sys.version}"
            slicer.app.processEvents()
            time.sleep(0.01)
