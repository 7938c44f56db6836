"""Every file that should ship is in CMake's lists, and what the Extensions Index asks is there."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement

from SlicerRuntime import MODULE_FOLDER

REPOSITORY = MODULE_FOLDER.parent
ROOT_CMAKE = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
MODULE_CMAKE = (MODULE_FOLDER / "CMakeLists.txt").read_text(encoding="utf-8")


def tracked(folder: str) -> set[str]:
    """Files under `folder` in git, and new ones that git does not ignore, relative to it."""
    output = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", folder],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = [Path(name) for name in output.split("\0") if name and "__pycache__" not in name]
    return {p.relative_to(folder).as_posix() for p in paths if (REPOSITORY / p).is_file()}


def listed(cmake: str, variable: str) -> list[str]:
    found = re.search(rf"set\({variable}\s+(.*?)\)", cmake, re.DOTALL)
    assert found, variable
    return found.group(1).replace("${MODULE_NAME}", "VerSemiSlicer").split()


def test_every_script_and_resource_of_the_module_ships() -> None:
    ships = listed(MODULE_CMAKE, "MODULE_PYTHON_SCRIPTS")
    ships += listed(MODULE_CMAKE, "MODULE_PYTHON_RESOURCES")
    # Build files and tests that CTest runs from the source tree stay behind.
    stay = {
        "CMakeLists.txt",
        "Testing/Python/CMakeLists.txt",
        "Testing/Python/VerSemiSlicerEngineTest.py",
    }
    assert len(ships) == len(set(ships))
    assert set(ships) == tracked("VerSemiSlicer") - stay


def test_every_file_of_the_engine_ships() -> None:
    ships = listed(ROOT_CMAKE, "ENGINE_PYTHON_SCRIPTS")
    ships += listed(ROOT_CMAKE, "ENGINE_PYTHON_RESOURCES")
    assert len(ships) == len(set(ships))
    assert set(ships) == {f"versemi/{name}" for name in tracked("training/versemi")}


def test_every_file_of_the_model_pack_ships() -> None:
    pack = "Resources/Models/versemi-base"
    if not (REPOSITORY / pack).is_dir():
        pytest.skip("there is no model pack in this checkout")
    ships = listed(ROOT_CMAKE, "MODEL_PACK_FILES")
    assert set(ships) == {f"{pack}/{name}" for name in tracked(pack)}


def test_the_ctests_that_are_registered_exist() -> None:
    text = (MODULE_FOLDER / "Testing" / "Python" / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts = re.findall(r"slicer_add_python_unittest\(SCRIPT (\S+)\)", text)
    assert scripts
    assert all((MODULE_FOLDER / "Testing" / "Python" / script).is_file() for script in scripts)


@pytest.mark.parametrize(
    "name", ["HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"]
)
def test_the_extension_says_in_plain_form_what_the_index_asks(name: str) -> None:
    assert re.search(rf'^set\(EXTENSION_{name} "[^"$]+"\)$', ROOT_CMAKE, re.MULTILINE)
    assert re.search(r"^project\(VerSemiSlicer\)$", ROOT_CMAKE, re.MULTILINE)


def test_the_pictures_that_the_index_shows_are_files_of_the_repository() -> None:
    urls = re.findall(
        r"https://raw\.githubusercontent\.com/OWNER/VerSemiSlicer/main/(\S+?)\"", ROOT_CMAKE
    )
    assert len(urls) == 2
    for path in urls:
        header = (REPOSITORY / path).read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n", path
    assert struct.unpack(">II", (REPOSITORY / urls[0]).read_bytes()[16:24]) == (128, 128)


def test_the_catalogue_entry_has_the_form_of_the_index() -> None:
    entry = json.loads((REPOSITORY / "VerSemiSlicer.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["category"] == "Segmentation"
    assert entry["scm_url"] == re.search(r'HOMEPAGE "([^"]+)"', ROOT_CMAKE).group(1)  # type: ignore[union-attr]
    depends = re.search(r'EXTENSION_DEPENDS "([^"]+)"', ROOT_CMAKE).group(1)  # type: ignore[union-attr]
    assert entry["build_dependencies"] == depends.split()
    assert 1 <= entry["tier"] <= 5


def test_the_licence_is_apache_2() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text


def test_text_files_end_their_lines_with_lf() -> None:
    files = [MODULE_FOLDER / name for name in tracked("VerSemiSlicer") if not name.endswith(".png")]
    files += [REPOSITORY / "CMakeLists.txt", REPOSITORY / "VerSemiSlicer.json"]
    assert [str(path) for path in files if b"\r" in path.read_bytes()] == []


def test_the_modules_requirements_are_the_engines() -> None:
    """But for what Slicer brings along, and for what only the command line needs."""
    lines = (MODULE_FOLDER / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    module = {
        Requirement(line).name: Requirement(line).specifier
        for line in lines.splitlines()
        if line and not line.startswith("#")
    }
    project = tomllib.loads((REPOSITORY / "training" / "pyproject.toml").read_text("utf-8"))
    engine = {
        Requirement(r).name: Requirement(r).specifier for r in project["project"]["dependencies"]
    }
    assert set(module) == {"torch", "monai", "safetensors"}
    assert {name: engine[name] for name in module} == module
    assert all(str(specifier).startswith(">=") for specifier in module.values())


def test_the_module_imports_nothing_heavy_and_no_qt_without_its_panel() -> None:
    """What Slicer's process loads: no torch, no MONAI; and no Qt where there is only the logic."""
    script = """
import sys
sys.path.insert(0, "Testing")
from SlicerRuntime import start
start()
import VerSemiSlicerLib.ModuleLogic, VerSemiSlicerLib.ParameterNode, VerSemiSlicerLib.Installer
import VerSemiSlicerLib.CorrectionLogic, VerSemiSlicerLib.LibraryLogic, VerSemiSlicerLib.ExportLogic
from VerSemiSlicerLib import Locations
from VerSemiSlicerLib.Modality import guessFromValues
import numpy as np
guessFromValues(np.zeros((4, 4, 4), np.int16))
import versemi.tasks, versemi.modelpack
try:
    VerSemiSlicerLib.ModuleLogic.makeModel()
except Exception as error:
    print("no pack:", error)
heavy = {"torch", "monai", "safetensors", "lightning", "qt", "PySide6", "pydantic", "typer"}
heavy |= {"highdicom", "pydicom"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert run.stdout.splitlines()[-1:] == ["[]"], run.stdout + run.stderr


def test_the_installed_layout_is_found_as_well_as_the_checkout(tmp_path: Path) -> None:
    """Engine and pack beside the module's script, as CMake puts them."""
    import shutil

    for name in listed(MODULE_CMAKE, "MODULE_PYTHON_SCRIPTS"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODULE_FOLDER / name, target)
    (tmp_path / "versemi").mkdir()
    (tmp_path / "versemi" / "__init__.py").touch()
    pack = tmp_path / "Resources" / "Models" / "versemi-base"
    pack.mkdir(parents=True)
    (pack / "manifest.json").touch()
    script = (
        "from VerSemiSlicerLib.Locations import engineFolder, shippedPack;"
        "print(engineFolder()); print(shippedPack())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(tmp_path), str(pack)]
