"""The searchable list of task prompts with check boxes.

Only setters, methods and signal arguments are used on widgets, never properties: so the same code
runs on PythonQt, where properties are attributes, and on the PySide of the tests, where they are
functions.
"""

from collections.abc import Iterable
from typing import Any

import qt

from .PromptCatalog import PromptCatalog
from .Signal import Signal

_SWATCH = 12


def colorIcon(color: Iterable[int]) -> Any:
    """A small square of the colour, RGB in 0..255."""
    pixmap = qt.QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)


class PromptList:
    """Fills a QTreeWidget with the catalog's prompts, grouped by body region and modality.

    `changed(promptIds)` is emitted when the user checks or unchecks.
    """

    def __init__(self, tree: Any, catalog: PromptCatalog) -> None:
        self.changed = Signal()
        self._tree = tree
        self._catalog = catalog
        self._checked: set[str] = set()
        self._items: dict[str, Any] = {}
        self._groups: list[tuple[Any, str, list[str]]] = []
        self._filter = ""
        self._filling = False
        self.refill()
        tree.itemChanged.connect(self._onItemChanged)

    def checked(self) -> list[str]:
        """Identifiers of the checked prompts, in label order."""
        return self._catalog.inOrder(list(self._checked))

    def setChecked(self, promptIds: Iterable[str]) -> None:
        """Checks these and no others, without `changed`; unknown ones are left out."""
        self._checked = {prompt for prompt in promptIds if prompt in self._items}
        self._filling = True
        try:
            for prompt, item in self._items.items():
                state = qt.Qt.Checked if prompt in self._checked else qt.Qt.Unchecked
                if item.checkState(0) != state:
                    item.setCheckState(0, state)
        finally:
            self._filling = False

    def refill(self) -> None:
        """Shows the prompts that the catalog has now, none of them checked."""
        self._checked.clear()
        self._items.clear()
        self._groups.clear()
        self._fill()
        self.setFilter(self._filter)

    def setFilter(self, text: str) -> None:
        """Shows only prompts that match the search text; what is checked stays checked."""
        self._filter = text
        for groupItem, _, prompts in self._groups:
            shown = [p for p in prompts if self._catalog.matches(self._catalog.task(p), text)]
            for prompt in prompts:
                self._items[prompt].setHidden(prompt not in shown)
            groupItem.setHidden(not shown)
            if text:
                groupItem.setExpanded(True)

    def checkShown(self) -> None:
        """Checks all prompts that the search shows."""
        shown = {
            task.id for task in self._catalog.tasks if self._catalog.matches(task, self._filter)
        }
        self._setByUser(self._checked | shown)

    def uncheckAll(self) -> None:
        self._setByUser(set())

    def preferModality(self, modality: str) -> None:
        """Folds the groups of other modalities away, unless something in them is checked."""
        for groupItem, groupModality, prompts in self._groups:
            wanted = not modality or groupModality == modality or self._checked & set(prompts)
            groupItem.setExpanded(bool(wanted or self._filter))

    def _setByUser(self, promptIds: set[str]) -> None:
        if promptIds != self._checked:
            self.setChecked(promptIds)
            self.changed.emit(self.checked())

    def _fill(self) -> None:
        self._filling = True
        try:
            self._tree.clear()
            for title, tasks in self._catalog.groups():
                group = qt.QTreeWidgetItem()
                group.setText(0, title)
                group.setFlags(qt.Qt.ItemIsEnabled)
                font = group.font(0)
                font.setBold(True)
                group.setFont(0, font)
                self._tree.addTopLevelItem(group)
                for task in tasks:
                    item = qt.QTreeWidgetItem()
                    item.setText(0, task.name)
                    item.setIcon(0, colorIcon(task.color))
                    item.setToolTip(0, self._toolTip(task))
                    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                    item.setCheckState(0, qt.Qt.Unchecked)
                    group.addChild(item)
                    self._items[task.id] = item
                group.setExpanded(True)
                self._groups.append((group, tasks[0].modality, [task.id for task in tasks]))
        finally:
            self._filling = False

    @staticmethod
    def _toolTip(task: Any) -> str:
        side = f", {task.modifier.meaning.lower()}" if task.modifier else ""
        lines = [
            f"{task.name} in {task.modality} of the {task.region}",
            f"SNOMED CT {task.type.value}: {task.type.meaning}{side}",
        ]
        return "\n".join(lines + ([task.note] if task.note else []))

    def _onItemChanged(self, _item: Any, _column: int) -> None:
        if self._filling:
            return
        checked = {p for p, item in self._items.items() if item.checkState(0) == qt.Qt.Checked}
        if checked != self._checked:
            self._checked = checked
            self.changed.emit(self.checked())
