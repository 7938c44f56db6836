"""The table of segments with their volumes, under the Segment button."""

from collections.abc import Sequence
from typing import Any

import qt

from .PromptList import colorIcon
from .SegmentationResult import SegmentRow


class ResultsTable:
    """Shows the rows of the last run in a QTableWidget with two columns."""

    def __init__(self, table: Any) -> None:
        self._table = table
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setVisible(False)
        self.show([])

    def show(self, rows: Sequence[SegmentRow]) -> None:
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
        height = _tableHeight(len(rows))
        self._table.setMinimumHeight(height)
        self._table.setMaximumHeight(height)


def _tableHeight(rows: int) -> int:
    """Pixels for up to eight rows and the header; more rows scroll."""
    return 30 + 26 * max(1, min(rows, 8))
