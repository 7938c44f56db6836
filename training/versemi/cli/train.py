"""``versemi train`` and ``versemi measure``: from labelled scans to a measured pack."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from versemi.cli.options import Device, DeviceOption, output, progress_bar, result_table, say
from versemi.errors import InputError

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR", help="Holds the folders of the data sets that the run names."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The run in YAML; by default that of the shipped pack."
    ),
]


def train(
    data: DataOption,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Checkpoints, logs, and the pack.")
    ],
    config: ConfigOption = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Prepared scans; by default DIR/prepared."),
    ] = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train a pack on labelled scans; a run that was stopped goes on where it was.

    The result is OUT/pack, not yet measured: run **versemi measure** on it next.

    Example:

    - versemi train --data data --out runs/base
    """
    _need_training_packages()
    if not data.is_dir():
        raise InputError(f"There is no folder {data}; give the one that holds the data sets.")
    from versemi.learning.configuration import load_settings
    from versemi.learning.release import release
    from versemi.learning.run import train as run

    settings = load_settings(config)
    out.mkdir(parents=True, exist_ok=True)
    network = run(
        settings,
        data,
        out,
        cache=cache or out / "prepared",
        accelerator={"cuda": "gpu"}.get(device.value, device.value),
    )
    pack = release(settings, network, data, out / "pack")
    say(f"Wrote the pack {pack.path}")


def measure(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="The pack's folder.")],
    data: DataOption,
    config: ConfigOption = None,
    device: DeviceOption = Device.auto,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every case here.")
    ] = None,
) -> None:
    """Measure a pack on the scans that its run kept out, and write its model card.

    The measured Dice goes into the pack's manifest, the table into its README.md.
    """
    _need_training_packages()
    from versemi.export import write_text
    from versemi.learning.configuration import load_settings
    from versemi.learning.release import add_measurements
    from versemi.learning.release import measure as run
    from versemi.modelpack import ModelPack

    settings = load_settings(config)
    loaded = ModelPack.load(pack)
    with progress_bar() as report:
        reports = run(loaded, settings, data, device=device.value, progress=report)
    add_measurements(loaded, reports, settings)
    if json_file is not None:
        write_text(json.dumps(reports, indent=1, allow_nan=False) + "\n", json_file)
    table = result_table("Prompt", "Dice", "Cases", "Missed")
    for result in reports.values():
        for task, row in result["tasks"].items():
            dice = "-" if row["dice"] is None else f"{row['dice']:.3f}"
            table.add_row(task, dice, str(row["cases"]), str(row["missed"]))
    output().print(table)


def _need_training_packages() -> None:
    """Training wants more than segmenting does; say so before anything is computed.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in ("lightning", "tensorboard", "yaml") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Training needs {', '.join(missing)}; install the extra: pip install 'versemi[train]'."
        )
