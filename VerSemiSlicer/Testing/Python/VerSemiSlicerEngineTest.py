"""The real engine under the module, in a real Slicer; passed over where torch is missing."""

import unittest

import numpy as np
import slicer


class VerSemiSlicerEngineTest(unittest.TestCase):
    def setUp(self):
        from VerSemiSlicerLib.Requirements import Requirements

        missing = Requirements().missing()
        if missing:
            self.skipTest(f"not installed: {', '.join(missing)}")
        slicer.mrmlScene.Clear()

    def test_a_volume_is_segmented_and_torch_stays_out_of_slicers_process(self):
        import sys

        from VerSemiSlicer import VerSemiSlicerLogic

        torchWasThere = "torch" in sys.modules
        random = np.random.default_rng(0)
        values = random.normal(40, 20, (40, 60, 60)).astype(np.int16)
        values[:, :10] = -1000
        volumeNode = slicer.util.addVolumeFromArray(values, name="Noise")

        result = VerSemiSlicerLogic().segment(volumeNode, ["liver", "spleen"], device="cpu")

        names = [row.name for row in result.rows]
        self.assertEqual(names, ["Spleen", "Liver"])
        self.assertEqual(result.segmentationNode.GetSegmentation().GetNumberOfSegments(), 2)
        self.assertTrue(result.device.startswith("cpu"))
        self.assertEqual("torch" in sys.modules, torchWasThere)
