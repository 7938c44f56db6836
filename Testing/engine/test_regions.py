"""Regions of interest as the command line takes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from versemi.cli.regions import parse_roi
from versemi.errors import InputError


def markups(**changes: Any) -> dict[str, Any]:
    roi = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "center": [10, 20, 30],
        "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
        "size": [4, 5, 6],
    }
    return {"markups": [{**roi, **changes}]}


def test_a_slicer_roi_file_becomes_the_same_box_in_ras(tmp_path):
    slicer = pytest.importorskip("slicer")
    import vtk

    scene = slicer.vtkMRMLScene()
    node = scene.AddNode(slicer.vtkMRMLMarkupsROINode())
    transform = vtk.vtkTransform()
    transform.Translate(-30, 20, 5)
    transform.RotateWXYZ(35, 1, 2, 3)
    node.SetAndObserveObjectToNodeMatrix(transform.GetMatrix())
    node.SetSize(10, 20, 40)
    storage = scene.AddNode(slicer.vtkMRMLMarkupsROIJsonStorageNode())
    storage.SetFileName(str(tmp_path / "box.mrk.json"))
    assert storage.WriteData(node)
    roi = parse_roi(str(tmp_path / "box.mrk.json"))
    matrix = np.array(
        [[transform.GetMatrix().GetElement(r, c) for c in range(4)] for r in range(3)]
    )
    assert np.allclose(roi.center, matrix[:, 3], atol=1e-3)
    assert np.allclose(np.array(roi.axes).T, matrix[:, :3], atol=1e-3)
    assert np.allclose(roi.size, (10, 20, 40))


def test_a_region_in_ras_is_taken_as_it_is(tmp_path):
    path = tmp_path / "box.mrk.json"
    path.write_text(json.dumps(markups(coordinateSystem="RAS")))
    assert tuple(parse_roi(str(path)).center) == (10, 20, 30)
    path.write_text(json.dumps(markups()))
    assert tuple(parse_roi(str(path)).center) == (-10, -20, 30)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "is not JSON"),
        ("{}", "not a markups ROI"),
        ("[1]", "not a markups ROI"),
        ('{"markups": []}', "holds 0 ROIs"),
        (json.dumps(markups(size=[0, 1, 2])), "empty"),
        (json.dumps(markups(size=[1, 2])), "numbers"),
        (json.dumps(markups(center="x")), "not a markups ROI"),
        (json.dumps(markups(orientation=[1, 0])), "not a markups ROI"),
    ],
)
def test_a_region_file_that_holds_no_box_is_refused(tmp_path, content, words):
    path = tmp_path / "box.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        parse_roi(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        parse_roi(str(tmp_path / "none.mrk.json"))
