"""The module's own script: loaded, opened and closed as Slicer does it, and its self tests run."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer

from SlicerRuntime import scripted, widgets
from VerSemiSlicerLib import Locations


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, model: Any) -> Iterator[tuple[Any, Any]]:
    """The script and its widget, with all prompts whatever the pack's state."""
    widgets.install()
    import VerSemiSlicerLib.PanelSetup as setup

    monkeypatch.setattr(setup, "ModelInUse", lambda: model)
    script, widget = scripted.load_module()
    yield script, widget
    widget.cleanup()
    widget.parent.deleteLater()


def test_the_module_tells_slicer_its_title_category_and_paper(module: tuple[Any, Any]) -> None:
    script, _ = module
    parent = script.VerSemiSlicer(type("Parent", (), {})()).parent
    assert parent.title == "VerSemi"
    assert parent.categories == ["Segmentation"]
    assert "arXiv 2311.11686" in parent.acknowledgementText


def test_the_panel_follows_the_life_of_the_module(module: tuple[Any, Any], add_volume: Any) -> None:
    _, widget = module
    volume = add_volume()
    widget.parent.isEntered = True
    widget.enter()
    assert widget.panel.ui.inputSelector.currentNode() is volume
    slicer.mrmlScene.Clear(0)
    assert widget.panel.ui.inputSelector.currentNode() is None
    widget.exit()
    widget.parent.isEntered = False
    add_volume()
    slicer.mrmlScene.Clear(0)
    assert widget.panel._parameterNode is None


def test_a_broken_pack_is_told_in_the_panels_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from PySide6.QtWidgets import QLabel

    monkeypatch.setenv("VERSEMI_PACK", "/no/such/pack")
    _, widget = scripted.load_module()
    (label,) = widget.parent.findChildren(QLabel)
    assert "There is no model pack at /no/such/pack" in label.text()
    widget.enter()
    widget.exit()
    widget.cleanup()


def test_reloading_the_module_imports_the_library_anew(
    module: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, widget = module
    reloaded: list[str] = []
    kept = {name: m for name, m in sys.modules.items() if name.startswith("VerSemiSlicerLib")}
    monkeypatch.setattr(slicer.util, "reloadScriptedModule", reloaded.append, raising=False)
    try:
        widget.onReload()
        assert not any(name.startswith("VerSemiSlicerLib") for name in sys.modules)
    finally:
        sys.modules.update(kept)
    assert reloaded == ["VerSemiSlicer"]


def test_the_self_tests_for_the_desktop_pass_where_they_can_run_without_it(
    module: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the two that ask the desktop for its module widget and the model pack."""
    script, _ = module
    monkeypatch.setattr(slicer.app, "processEvents", widgets.install().processEvents, raising=False)
    monkeypatch.setattr(slicer.modules, "versemislicer", None, raising=False)
    loader = unittest.TestLoader()
    names = set(loader.getTestCaseNames(script.VerSemiSlicerTest))
    away = {"test_the_module_opens", "test_the_prompts_come_from_the_model_pack"}
    assert away < names
    assert len(names - away) >= 7
    suite = unittest.TestSuite(script.VerSemiSlicerTest(name) for name in sorted(names - away))
    result = unittest.TestResult()
    suite.run(result)
    assert [trace for _, trace in result.failures + result.errors] == []


def test_the_locations_of_a_checkout_are_found() -> None:
    assert (Locations.engineFolder() / "versemi" / "worker" / "__main__.py").is_file()
    assert Locations.resourcePath("UI", "VerSemiSlicer.ui").is_file()


def test_missing_files_are_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from VerSemiSlicerLib.Errors import UserError

    monkeypatch.setattr(Locations, "MODULE_FOLDER", tmp_path / "VerSemiSlicer")
    with pytest.raises(UserError, match="The segmentation engine .* is missing"):
        Locations.engineFolder()
    with pytest.raises(UserError, match="The model pack 'versemi-base' is missing"):
        Locations.shippedPack()
