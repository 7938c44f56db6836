"""``versemi train`` and ``versemi measure``: from scans to a measured pack."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versemi.cli.options import (
    Device,
    DeviceOption,
    Scale,
    ScaleOption,
    output,
    progress_bar,
    result_table,
    say,
)
from versemi.errors import InputError

if TYPE_CHECKING:
    from versemi.learning.configuration import RunSettings
    from versemi.learning.protocol import Protocol


def train(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Checkpoints, logs, pictures, and the pack."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A data set with imagesTr, labelsTr and dataset.json; give it again for more."
            " With --config or --protocol: the folder that holds the data sets they name.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE|base|atrium",
            help="The run in YAML; 'base' is the run of the pack that ships, 'atrium' that of its"
            " left atrium's own network.",
        ),
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option("--protocol", metavar="FILE", help="Train for a benchmark protocol."),
    ] = None,
    fraction: Annotated[
        int, typer.Option("--fraction", help="Percent of the protocol's labels: 10 or 20.")
    ] = 10,
    scale: ScaleOption = Scale.processor,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "-t", "--task", metavar="PROMPT", help="Only this task of the protocol; again for more."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="NAME", help="versemi, supervised, single, mean-teacher or cps."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="PART",
            help="Leave out a part of VerSemi: prompt, foreground, synthetic, consistency,"
            " pseudo-labels or group-networks; give it again for more.",
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="PART",
            help="Put back a part of VerSemi that is left out by default; give it again for more.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of all chance.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PACK", help="Start from this pack's weights, not from random ones."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Length of the run.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Prepared scans; by default OUT/prepared."),
    ] = None,
    device: DeviceOption = Device.auto,
    devices: Annotated[
        int, typer.Option("--devices", min=1, help="Processes on this machine, a GPU each.")
    ] = 1,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="Machines; start the command on each.")
    ] = 1,
) -> None:
    """Train a pack on labelled and unlabelled scans; a run that was stopped goes on where it was.

    A scan without a label map (in imagesTr, or in imagesUn) is learnt from without one, and every
    scan is unlabelled for the prompts that its data set does not label. The result is OUT/pack,
    not yet measured; the settings with every default are written to OUT/settings.yaml.

    Examples:

    - versemi train --data my_livers --data my_atria --out runs/mine

    - versemi train --config base --data data --out runs/base

    - versemi train --protocol versemi4.json --fraction 10 --method cps --out runs/cps

    - versemi train --protocol versemi4.json --scale full -t left_atrium --out runs/atrium
    """
    need_training_packages()
    runs, root = _runs(
        data or [],
        config,
        _protocol(protocol, tasks or []),
        fraction,
        scale,
        method,
        without or [],
        extra or [],
        seed,
        steps,
    )
    from versemi.learning.release import release
    from versemi.learning.run import train as run
    from versemi.modelpack import ModelPack

    parent = ModelPack.load(start) if start else None
    for name, settings in runs.items():
        folder = out if len(runs) == 1 else out / name
        network = run(
            settings,
            root,
            folder,
            cache=cache or out / "prepared",
            device=device.value,
            devices=devices,
            nodes=nodes,
            start=parent,
        )
        pack = release(settings, network, root, folder / "pack", parent)
        say(f"Wrote the pack {pack.path}")


def _runs(
    data: list[Path],
    config: str | None,
    protocol: Protocol | None,
    fraction: int,
    scale: Scale,
    method: str | None,
    without: list[str],
    extra: list[str],
    seed: int | None,
    steps: int | None,
) -> tuple[dict[str, RunSettings], Path]:
    """The runs that the options describe, and the folder that their data sets lie in."""
    from dataclasses import replace

    from versemi.learning.configuration import (
        load_settings,
        named_settings,
        settings_for_folders,
    )
    from versemi.learning.methods import LEFT_OUT
    from versemi.learning.protocol import runs_of, scale_settings

    if config and protocol:
        raise InputError("Give --config or --protocol, not both.")
    if protocol:
        runs = runs_of(
            protocol,
            fraction=fraction,
            method=method or "versemi",
            without=without,
            extra=extra,
            seed=seed or 0,
            scale=scale_settings(scale.value),
        )
        root = _root(data) if data else protocol.folder
    else:
        if not data:
            raise InputError("Say what to train on: --data DIR, once or more, or --protocol FILE.")
        for folder in data:
            if not folder.is_dir():
                raise InputError(f"There is no folder {folder}; check the path.")
        if config:
            settings = named_settings(config)
            root = _root(data)
        else:
            base = load_settings()
            base = replace(base, method=replace(base.method, without=LEFT_OUT))
            settings, root = settings_for_folders(data, base), Path()
        settings = _changed(settings, method, without, extra, seed)
        if settings.method.one_model_a_task:
            raise InputError(
                f"The method {settings.method.name} trains one model a task, which needs a "
                "--protocol; choose versemi or supervised."
            )
        runs = {"all": settings}

    def shortened(settings: RunSettings) -> RunSettings:
        return replace(settings, steps=steps) if steps else settings

    return {name: shortened(settings) for name, settings in runs.items()}, root


def _protocol(path: Path | None, tasks: list[str]) -> Protocol | None:
    """The protocol, of some of its tasks only where any are named."""
    if path is None:
        if tasks:
            raise InputError(
                f"-t {tasks[0]} chooses among the tasks of a protocol; add --protocol."
            )
        return None
    from versemi.learning.protocol import Protocol

    loaded = Protocol.load(path)
    return loaded.only(tasks) if tasks else loaded


def _changed(
    settings: RunSettings,
    method: str | None,
    without: list[str],
    extra: list[str],
    seed: int | None,
) -> RunSettings:
    """The settings with what the command line says of method and seed."""
    from dataclasses import asdict, replace

    from versemi.learning.configuration import left_out, method_settings, network_settings

    changes: dict[str, object] = asdict(settings.method)
    if method:
        changes["name"] = method
    changes["without"] = left_out(settings.method.without, without, extra)
    chosen = method_settings(changes, "of this run")
    prompts = {str(p) for source in settings.sources for p in source["labels"].values()}
    described = {"backbone": settings.network.backbone, "features": settings.network.features}
    return replace(
        settings,
        method=chosen,
        network=network_settings(prompts, chosen, described),
        seed=settings.seed if seed is None else seed,
    )


def _root(data: list[Path]) -> Path:
    if len(data) != 1:
        raise InputError(
            f"There are {len(data)} folders; with --config or --protocol give the one that holds "
            "the data sets they name."
        )
    return data[0]


def measure(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="The pack's folder.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR", help="Holds the data sets that the run names."),
    ],
    config: Annotated[
        str,
        typer.Option(
            "--config", metavar="FILE|base|atrium", help="The run's settings, as for train."
        ),
    ] = "base",
    device: DeviceOption = Device.auto,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every case here.")
    ] = None,
) -> None:
    """Measure a pack on the scans that its run kept out, and write its model card.

    The measured Dice goes into the pack's manifest, the table into its README.md.
    """
    need_training_packages()
    from versemi.export import check_folder, write_text
    from versemi.learning.configuration import named_settings
    from versemi.learning.release import add_measurements
    from versemi.learning.release import measure as run
    from versemi.modelpack import ModelPack

    settings = named_settings(config)
    loaded = ModelPack.load(pack)
    if json_file is not None:
        check_folder(json_file.parent)
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


def need_training_packages() -> None:
    """Training wants more than segmenting does; say so before anything is computed.

    Raises:
        InputError: a package is missing.
    """
    wanted = ("lightning", "tensorboard", "yaml", "matplotlib")
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise InputError(
            f"Training needs {', '.join(missing)}; install the extra: pip install 'versemi[train]'."
        )
