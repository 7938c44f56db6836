"""Which model the module uses: the chosen one, as the user hears of it and as it changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Desk

from packs import THYMUS, damage, make_pack
from SlicerRuntime import scripted, widgets
from versemi import tasks
from VerSemiSlicerLib import Locations, ModuleLogic
from VerSemiSlicerLib.Errors import UserError
from VerSemiSlicerLib.ModelInUse import ModelInUse


@pytest.fixture(autouse=True)
def shipped_beside_the_module(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Locations, "shippedPack", lambda: shipped)
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))


@pytest.fixture
def model(store: Any) -> ModelInUse:
    return ModuleLogic.makeModel()


@pytest.fixture
def mine(store: Any, tmp_path: Path) -> Any:
    """A version with a prompt of one's own, not yet in use."""
    return store.add(make_pack(tmp_path / "mine", "mine", "2", own=(THYMUS,)))


def shown(desk: Desk) -> list[str]:
    return list(desk.panel.promptList._items)


def click(desk: Desk) -> None:
    desk.ui.segmentButton.click()
    desk.wait_until_idle()


def test_the_panel_says_which_model_it_uses(desk: Desk, shipped: Path) -> None:
    assert desk.ui.modelLabel.text() == "base 1.0"
    assert str(shipped) in desk.ui.modelLabel.toolTip()


def test_a_provisional_model_is_called_so_with_its_reason(
    desk: Desk, store: Any, tmp_path: Path
) -> None:
    store.add(make_pack(tmp_path / "p"), "provisional", "one corrected case")
    store.activate("atria", "1")
    desk.panel.enter()
    assert desk.ui.modelLabel.text() == "atria 1 (provisional)"
    assert desk.ui.modelLabel.toolTip().startswith("Provisional: one corrected case. ")


def test_the_model_that_was_chosen_meanwhile_answers_the_next_segmentation(
    desk_with_scan: Desk, store: Any, mine: Any, stand_in: Any
) -> None:
    desk = desk_with_scan
    node = desk.segment("spleen")
    assert "base 1.0" in node.GetAttribute("VerSemiSlicer.Prediction.spleen")
    store.activate("mine", "2")
    click(desk)
    assert desk.ui.modelLabel.text() == "mine 2"
    assert "mine 2" in node.GetAttribute("VerSemiSlicer.Prediction.spleen")
    assert [worker.isRunning() for worker in stand_in.workers] == [False, True]
    click(desk)
    assert len(stand_in.workers) == 2
    assert desk.dialogs.questions == desk.dialogs.errors == []


def test_own_prompts_of_the_chosen_model_are_listed_when_the_panel_comes_into_view(
    desk_with_scan: Desk, store: Any, mine: Any
) -> None:
    desk = desk_with_scan
    desk.check("spleen")
    desk.ui.promptSearchBox.setText("thymus")
    store.activate("mine", "2")
    desk.panel.exit()
    assert shown(desk) == ["left_atrium", "spleen"]
    desk.panel.enter()
    assert shown(desk) == ["left_atrium", "spleen", "thymus"]
    # What was chosen and what was searched for are as before.
    assert desk.panel.promptList.checked() == ["spleen"]
    assert not desk.item("thymus").isHidden() and desk.item("spleen").isHidden()
    assert desk.ui.promptCountLabel.text() == "1 of 3 chosen"
    node = desk.segment("thymus")
    assert node.GetSegmentation().GetSegment("thymus").GetName() == "Thymus"


def test_an_own_prompt_stays_chosen_when_the_scene_is_saved_and_loaded(
    desk_with_scan: Desk, store: Any, mine: Any, tmp_path: Path
) -> None:
    desk = desk_with_scan
    store.activate("mine", "2")
    desk.panel.enter()
    desk.check("thymus")
    desk.save_and_load(tmp_path / "scene.mrml")
    assert desk.parameters.prompts == ["thymus"]
    assert desk.panel.promptList.checked() == ["thymus"]


def test_a_prompt_that_the_new_model_does_not_know_is_told_and_nothing_is_segmented(
    desk_with_scan: Desk, store: Any, mine: Any, stand_in: Any
) -> None:
    desk = desk_with_scan
    store.activate("mine", "2")
    desk.panel.enter()
    desk.check("thymus")
    desk.check("spleen")
    store.activate_shipped()
    click(desk)
    sentence = (
        "The model base 1.0, which is in use now, does not know Thymus; look through the prompts "
        "and segment again."
    )
    assert desk.dialogs.errors == [sentence] and stand_in.workers == []
    assert desk.panel.promptList.checked() == ["spleen"]
    click(desk)
    assert desk.ui.statusLabel.text().startswith("Done in")


@pytest.mark.parametrize(
    ("harm", "words"),
    [(damage, "are damaged"), (shutil.rmtree, "There is no mine@2 in the model store")],
)
def test_a_chosen_model_that_cannot_be_used_is_told_and_the_shipped_one_offered(
    desk_with_scan: Desk, store: Any, mine: Any, stand_in: Any, harm: Any, words: str
) -> None:
    desk = desk_with_scan
    desk.check("spleen")
    store.activate("mine", "2")
    harm(mine.path)

    desk.dialogs.answer = False
    click(desk)
    (question,) = desk.dialogs.questions
    assert words in question
    assert question.endswith("Segment with base 1.0, which came with the extension, instead?")
    assert words in desk.ui.statusLabel.text() and stand_in.workers == []

    desk.dialogs.answer = True
    click(desk)
    assert desk.ui.statusLabel.text().startswith("Done in")
    assert desk.ui.modelLabel.text() == "base 1.0, instead of the chosen one"
    assert words in desk.ui.modelLabel.toolTip()
    # The user knows by now, and the choice itself is still the user's.
    click(desk)
    assert len(desk.dialogs.questions) == 2 and store.chosen() == ("mine", "2")

    store.activate_shipped()
    click(desk)
    assert desk.ui.modelLabel.text() == "base 1.0"
    assert desk.dialogs.errors == []


def test_looking_at_the_panel_tells_a_broken_choice_without_a_window(
    desk_with_scan: Desk, store: Any, mine: Any
) -> None:
    desk = desk_with_scan
    store.activate("mine", "2")
    damage(mine.path)
    desk.panel.enter()
    assert "are damaged" in desk.ui.statusLabel.text()
    assert desk.dialogs.questions == desk.dialogs.errors == []


def test_where_the_shipped_model_is_broken_too_there_is_only_the_sentence(
    desk_with_scan: Desk, store: Any, mine: Any, shipped: Path
) -> None:
    desk = desk_with_scan
    desk.check("spleen")
    store.activate("mine", "2")
    damage(mine.path)
    damage(shipped)
    click(desk)
    assert desk.dialogs.questions == []
    (error,) = desk.dialogs.errors
    assert str(mine.path) in error and "are damaged" in error


# -- when the module is opened -----------------------------------------------------------------


@pytest.fixture
def opened(store: Any, mine: Any) -> Iterator[tuple[Any, Any]]:
    """The module's widget, opened with a choice that is gone, and the buttons in the way."""
    widgets.install()
    store.activate("mine", "2")
    kept = mine.path.with_name("kept")
    mine.path.rename(kept)
    _, widget = scripted.load_module()
    yield widget, kept
    widget.cleanup()
    widget.parent.deleteLater()


def buttons(widget: Any) -> dict[str, Any]:
    from PySide6.QtWidgets import QPushButton

    found = widget.parent.findChildren(QPushButton)
    return {button.text(): button for button in found if not button.window().isHidden()}


def test_a_broken_choice_takes_the_panels_place_until_the_shipped_model_is_taken(
    opened: tuple[Any, Any],
) -> None:
    from PySide6.QtWidgets import QLabel

    widget, _ = opened
    (label,) = widget.parent.findChildren(QLabel)
    assert "There is no mine@2 in the model store" in label.text()
    assert widget.panel is None
    widget.parent.show()
    buttons(widget)["Use base 1.0"].click()
    assert widget.panel.ui.modelLabel.text() == "base 1.0, instead of the chosen one"
    widget.enter()
    assert not widget.panel.ui.statusLabel.isVisible()


def test_a_choice_that_was_put_right_is_found_by_trying_again(opened: tuple[Any, Any]) -> None:
    from PySide6.QtWidgets import QLabel

    widget, kept = opened
    widget.parent.show()
    again = buttons(widget)["Try again"]
    kept.with_name("2").mkdir()
    again.click()
    (label,) = widget.parent.findChildren(QLabel)
    assert "is not a model pack" in label.text() and widget.panel is None
    kept.with_name("2").rmdir()
    kept.rename(kept.with_name("2"))
    again.click()
    assert widget.panel.ui.modelLabel.text() == "mine 2"
    assert widget.logic is widget.panel.logic


# -- for scripts -------------------------------------------------------------------------------


def test_the_worker_is_started_with_the_model_in_use_or_the_one_that_is_named(
    store: Any, mine: Any, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    class NoProcess:
        def __init__(self, command: list[str], environment: dict[str, str]) -> None:
            started.append(command[command.index("--pack") + 1])
            raise OSError("none here")

    monkeypatch.setattr(ModuleLogic, "WorkerProcess", NoProcess)
    store.activate("mine", "2")
    for pack in ("", "shipped", str(mine.path)):
        link = ModuleLogic.makeLink(ModuleLogic.makeModel(pack))
        with pytest.raises(UserError, match="none here"):
            link.start({}, ModuleLogic.makeLogic(ModuleLogic.makeModel(), link))
    assert started == [str(mine.path), str(shipped), str(mine.path)]


def test_a_script_gets_the_sentence_and_no_other_model(store: Any, mine: Any) -> None:
    store.activate("mine", "2")
    damage(mine.path)
    with pytest.raises(UserError, match="are damaged"):
        ModuleLogic.makeLogic()
    with pytest.raises(UserError, match="There is no mine@3"):
        ModuleLogic.makeModel("mine@3")
