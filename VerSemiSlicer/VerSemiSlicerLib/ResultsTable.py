"""The table of segments with their volumes, under the Segment button."""

from collections.abc import Sequence
from typing import Any

import qt

from .PromptList import colorIcon
from .SegmentationResult import SegmentRow
from .Signal import Signal

_ROW, _HEADER = 24, 30


class ResultsTable:
    """Shows the rows of the last run in a QTableWidget with two columns.

    `chosen(segmentId)` is emitted when the user clicks on one.
    """

    def __init__(self, table: Any) -> None:
        self.chosen = Signal()
        self._table = table
        self._rows: Sequence[SegmentRow] = ()
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.cellClicked.connect(self._onClicked)
        self.show([])

    def _onClicked(self, row: int, _column: int) -> None:
        self.chosen.emit(self._rows[row].segmentId)

    def show(self, rows: Sequence[SegmentRow]) -> None:
        self._rows = rows
        self._table.setRowCount(len(rows))
        for index, row in enumerate(rows):
            name = qt.QTableWidgetItem(row.name)
            name.setIcon(colorIcon(row.color))
            name.setToolTip(
                f"Replaced the earlier segment '{row.segmentId}'"
                if row.replaced
                else f"Segment '{row.segmentId}'"
            )
            volume = qt.QTableWidgetItem(f"{row.volumeMl:.1f}" if row.volumeMl else "not found")
            volume.setTextAlignment(int(qt.Qt.AlignRight) | int(qt.Qt.AlignVCenter))
            self._table.setItem(index, 0, name)
            self._table.setItem(index, 1, volume)
        # As high as its rows, up to eight; more rows scroll.
        height = _HEADER + _ROW * max(1, min(len(rows), 8))
        self._table.setMinimumHeight(height)
        self._table.setMaximumHeight(height)
