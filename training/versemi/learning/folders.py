"""A data set as it lies on disk: the Decathlon or nnU-Net layout.

``imagesTr`` holds scans, ``labelsTr`` label maps of the same names, and ``dataset.json`` says
what the label values mean. A scan in ``imagesTr`` without a label map, and any in ``imagesUn``,
is unlabelled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from versemi.errors import InputError
from versemi.evaluation import files_by_case

_CHANNEL = "_0000"


@dataclass(frozen=True)
class DataFolder:
    """One data set.

    Attributes:
        path: its folder.
        images: scans by case.
        labels: label maps by case; each has its scan in `images`.
        table: what each label value is called, background left out.
        order: the cases in the order that ``dataset.json`` gives them, or by name.
    """

    path: Path
    images: dict[str, Path]
    labels: dict[str, Path]
    table: dict[int, str]
    order: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> DataFolder:
        """Look at a folder.

        Raises:
            InputError: there is none, ``dataset.json`` cannot be used, there is no scan, or a
                label map has no scan.
        """
        if not path.is_dir():
            raise InputError(f"There is no folder {path}; check the path.")
        described = _described(path / "dataset.json")
        images = _scans(path / "imagesTr") | _scans(path / "imagesUn")
        labels = files_by_case(path / "labelsTr") if (path / "labelsTr").is_dir() else {}
        if not images:
            raise InputError(f"{path} has no scan in imagesTr; put the scans there.")
        for name, label in labels.items():
            if name not in images:
                raise InputError(
                    f"The label {label} has no scan of its name in {path / 'imagesTr'}; add the "
                    "scan or take the label away."
                )
        order = tuple(str(name) for name in described.get("order", ())) or tuple(sorted(images))
        return cls(path, images, labels, _table(described, path), order)

    def image(self, name: str) -> Path:
        """The scan of a case.

        Raises:
            InputError: there is none.
        """
        if name not in self.images:
            raise InputError(
                f"There is no scan of the case {name} in {self.path / 'imagesTr'}, although it is "
                "named as one; add it, or take its name out."
            )
        return self.images[name]

    def label(self, name: str) -> Path:
        """The label map of a case.

        Raises:
            InputError: there is none.
        """
        if name not in self.labels:
            raise InputError(
                f"There is no label map of the case {name} in {self.path / 'labelsTr'}, although "
                "it is named as a labelled one; add it, or take its name out."
            )
        return self.labels[name]


def _scans(folder: Path) -> dict[str, Path]:
    """Scans by case; nnU-Net's number of the channel at the end of a name is not part of it."""
    if not folder.is_dir():
        return {}
    return {name.removesuffix(_CHANNEL): path for name, path in files_by_case(folder).items()}


def _described(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); mend or replace it.") from None
    if not isinstance(described, dict):
        raise InputError(f"{path} has to be a JSON object with 'labels'.")
    return described


def _table(described: dict[str, Any], path: Path) -> dict[int, str]:
    """``labels`` in either direction: the Decathlon's ``"1": name`` or nnU-Net's ``name: 1``."""
    table = {}
    for key, value in dict(described.get("labels", {})).items():
        number, name = (key, value) if str(key).isdigit() else (value, key)
        try:
            table[int(number)] = str(name)
        except (TypeError, ValueError):
            raise InputError(
                f"{path / 'dataset.json'} gives the label {key!r} the value {value!r}; a label is "
                "one whole number and one name."
            ) from None
    return {number: name for number, name in table.items() if number != 0}
