"""What was measured on a library's scans, kept beside them so that it is measured once.

``ranking/PACK/ID.json`` in the library's folder, a folder for each model version and a file for
each scan. Nothing depends on these files: one that is missing, damaged, or of another scan is
measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from versemi.batch import pack_facts
from versemi.errors import OutputError
from versemi.export import write_text
from versemi.modelpack import ModelPack
from versemi.ranking.signs import Signs

FOLDER = "ranking"
#: Of a file; raised when the signs are measured in another way.
_FORMAT = 1
_LENGTH = 16


class Kept:
    """The signs that were measured with one model version.

    Args:
        library: the library's folder.
        pack: the model.

    Attributes:
        problem: why the last write failed, in one sentence; nothing is written after that.
    """

    def __init__(self, library: Path, pack: ModelPack) -> None:
        self._facts = pack_facts(pack)
        whole = hashlib.sha256(json.dumps(self._facts, sort_keys=True).encode()).hexdigest()
        self.folder = library / FOLDER / whole[:_LENGTH]
        self.problem = ""

    def read(self, case: str, image: str) -> dict[str, Signs]:
        """The signs of a scan by prompt; none where they are not kept, or not to be trusted.

        Args:
            case: its identifier.
            image: SHA-256 of the scan's file.
        """
        try:
            data = json.loads((self.folder / f"{case}.json").read_text(encoding="utf-8"))
            expected = (_FORMAT, self._facts, image, _checksum(data))
            if (data["format"], data["pack"], data["image"], data["sha256"]) != expected:
                return {}
            return {prompt: Signs.from_json(entry) for prompt, entry in data["prompts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def write(self, case: str, image: str, signs: Mapping[str, Signs]) -> None:
        """Keep the signs of a scan; a library that may not be written is told in `problem`."""
        if self.problem:
            return
        data: dict[str, Any] = {
            "format": _FORMAT,
            "pack": self._facts,
            "image": image,
            "prompts": {prompt: entry.to_json() for prompt, entry in signs.items()},
        }
        data["sha256"] = _checksum(data)
        try:
            write_text(json.dumps(data) + "\n", self.folder / f"{case}.json")
        except OutputError as error:
            self.problem = str(error)


def _checksum(data: Mapping[str, Any]) -> str:
    content = json.dumps({k: v for k, v in data.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
