"""VerSemi, a 3D Slicer module: segments the loaded volume under task prompts.

This file tells Slicer about the module and hands over to VerSemiSlicerLib.
"""

import sys

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from VerSemiSlicerLib.SelfTests import SelfTests


class VerSemiSlicer(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("VerSemi")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["The VerSemiSlicer developers"]
        self.parent.helpText = _(
            "Segments the chosen volume under one or several task prompts, with a model that the "
            "extension carries. Nothing is sent anywhere. Not a medical device. "
            '<a href="https://github.com/OWNER/VerSemiSlicer">Documentation</a>'
        )
        self.parent.acknowledgementText = _(
            "The method is VerSemi: Zeng, Xie, Lu, Lu, Wu, Xia, <i>Segment Together: A Versatile "
            "Paradigm for Semi-Supervised Medical Image Segmentation</i>, IEEE Transactions on "
            'Medical Imaging, 2025 (<a href="https://arxiv.org/abs/2311.11686">arXiv 2311.11686'
            "</a>)."
        )


class VerSemiSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self.notice = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        # Not at file scope: where the engine or the pack is broken, the module still loads, and
        # can say so.
        from VerSemiSlicerLib.PanelSetup import setupPanel

        self.notice = setupPanel(self, VerSemiSlicerLogic().getParameterNode)

    def usePanel(self, panel):
        """There is a panel now; without a model there is none."""
        self.panel = panel
        self.logic = panel.logic

    def enter(self):
        if self.panel:
            self.panel.enter()

    def exit(self):
        if self.panel:
            self.panel.exit()

    def onReload(self):
        # Slicer reloads this file only; the library is imported anew when it is out of the way.
        for name in [name for name in sys.modules if name.split(".")[0] == "VerSemiSlicerLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def cleanup(self):
        self.removeObservers()
        if self.panel:
            self.panel.cleanup()


class VerSemiSlicerLogic(ScriptedLoadableModuleLogic):
    """The module's logic for scripts: `segment` below, everything else in VerSemiSlicerLib."""

    def getParameterNode(self):
        from VerSemiSlicerLib.ParameterNode import ParameterNode

        return ParameterNode(super().getParameterNode())

    def segment(self, volumeNode, prompts, pack="", **options):
        """Segments `volumeNode` under `prompts`, such as ["liver", "spleen"], and waits for it.

        `pack` is the folder of a model pack, NAME@VERSION of the model store, or "shipped"; the
        active one answers where it is left out, and UserError says why where that cannot be used.
        `options` are the further fields of SegmentationRequest, such as roiNode and
        segmentationNode. Returns a SegmentationResult.
        """
        from VerSemiSlicerLib.ModuleLogic import makeLogic, makeModel
        from VerSemiSlicerLib.SegmentationResult import SegmentationRequest

        logic = makeLogic(makeModel(str(pack)))
        try:
            return logic.segment(SegmentationRequest(volumeNode, prompts, **options))
        finally:
            logic.close()


class VerSemiSlicerTest(SelfTests, ScriptedLoadableModuleTest):
    """Runs with Reload and Test, and as a CTest of the extension's build."""
