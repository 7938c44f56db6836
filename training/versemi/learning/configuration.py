"""A training run described in YAML: which scans, which prompts, which method, how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from versemi.cases import stem_of
from versemi.errors import InputError, PackError
from versemi.learning.folders import DataFolder
from versemi.learning.methods import LEFT_OUT, LIVES_ON, METHODS, PARTS, MethodSettings
from versemi.network import NetworkSettings
from versemi.preprocessing import DEFAULT_GROUPS, GroupSettings
from versemi.tasks import FOREGROUND, TASKS, Task, get_task

#: Settings of a method that are shares of a run or of its crops, or a Dice.
_SHARES = ("synthetic", "blank", "stable", "begin", "renew", "ramp", "own_until")


@dataclass(frozen=True)
class RunSettings:
    """A whole run; ``base.yaml`` explains each value."""

    seed: int
    steps: int
    samples: int
    rate: float
    average: float
    method: MethodSettings
    network: NetworkSettings
    sources: tuple[Mapping[str, Any], ...]
    pack: Mapping[str, Any]
    groups: Mapping[str, GroupSettings] = field(default_factory=lambda: DEFAULT_GROUPS)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt of the network, *foreground* last if it has it."""
        return self.network.prompts

    def keep(self, prompt: str) -> str:
        """Which connected components of a prompt's answers are kept, as in `PromptSettings`."""
        return "all" if prompt in self.pack["keep_all"] else "largest"

    def described(self) -> dict[str, Any]:
        """Plain data, every default written out; `load_settings` reads it again."""
        return {
            "seed": self.seed,
            "steps": self.steps,
            "samples": self.samples,
            "rate": self.rate,
            "average": self.average,
            "method": {**asdict(self.method), "without": list(self.method.without)},
            "network": {
                "backbone": self.network.backbone,
                "features": self.network.features,
            },
            "groups": {name: _plain(self.groups[name].to_json()) for name in self.used_groups()},
            "sources": [_plain(source) for source in self.sources],
            "pack": _plain(self.pack),
        }

    def used_groups(self) -> list[str]:
        """The prompt groups that some data set's scans are prepared for."""
        used = {str(source["group"]) for source in self.sources}
        return sorted(used.union(*(source.get("strange_groups", ()) for source in self.sources)))


def shipped(name: str) -> Mapping[str, Any]:
    """Read settings that come with the package, such as ``base.yaml``."""
    text = resources.files("versemi.learning").joinpath(name).read_text("utf-8")
    return dict(yaml.safe_load(text))


#: Runs that come with the package, by name.
RUNS = {"base": "base.yaml", "atrium": "atrium.yaml"}


def named_settings(name: str) -> RunSettings:
    """The settings of one of `RUNS`, or in a file.

    Raises:
        InputError: the file cannot be read, or a value is missing or wrong.
    """
    if name in RUNS:
        return settings_from(shipped(RUNS[name]), RUNS[name])
    return load_settings(Path(name))


def load_settings(path: Path | None = None) -> RunSettings:
    """Read a run's YAML; without a path, the run that made the shipped pack.

    Raises:
        InputError: the file cannot be read, or a value is missing or wrong.
    """
    if path is None:
        return settings_from(shipped("base.yaml"), "base.yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"The run settings {path} cannot be read: {error}.") from None
    return settings_from(data, str(path))


def settings_from(data: Any, name: str) -> RunSettings:
    """Read settings from plain data.

    Args:
        data: what a YAML file holds.
        name: how messages call it.

    Raises:
        InputError: a value is missing or wrong.
    """
    try:
        found = {get_task(p).id for source in data["sources"] for p in source["labels"].values()}
        method = method_settings(data.get("method", {}), name)
        return RunSettings(
            seed=int(data["seed"]),
            steps=int(data["steps"]),
            samples=int(data["samples"]),
            rate=float(data["rate"]),
            average=float(data["average"]),
            method=method,
            network=network_settings(found, method, data["network"]),
            sources=tuple(data["sources"]),
            pack=dict(data["pack"]),
            groups=group_settings(data.get("groups", {}), name),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The run settings {name} cannot be used: {error!r}.") from None


def group_settings(data: Mapping[str, Any], name: str) -> dict[str, GroupSettings]:
    """Read the part ``groups`` of settings: how scans are prepared, where not as usual.

    Args:
        data: by group, values of :class:`GroupSettings`; those that are not given stay usual.
        name: how messages call the settings.

    Raises:
        InputError: a group or a value is not known, or makes no sense.
    """
    known = {field.name for field in fields(GroupSettings)}
    groups = dict(DEFAULT_GROUPS)
    for group, changes in data.items():
        if group not in groups:
            raise InputError(
                f"The run settings {name} have the unknown group {group}; there are "
                f"{', '.join(groups)}."
            )
        for key in changes:
            if key not in known:
                raise InputError(
                    f"The run settings {name} have the unknown value groups.{group}.{key}; there "
                    f"are {', '.join(sorted(known))}."
                )
        try:
            groups[group] = GroupSettings.from_json({**groups[group].to_json(), **changes})
        except PackError as error:
            raise InputError(f"The run settings {name} cannot be used: {error}") from None
    return groups


def method_settings(data: Mapping[str, Any], name: str) -> MethodSettings:
    """Read the part ``method`` of settings.

    Raises:
        InputError: a name is not known, or a share does not lie between 0 and 1.
    """
    known = {field.name for field in fields(MethodSettings)}
    for key in data:
        if key not in known:
            raise InputError(
                f"The run settings {name} have the unknown value method.{key}; there are "
                f"{', '.join(sorted(known))}."
            )
        if key in _SHARES and not (_is_number(data[key]) and 0 <= data[key] <= 1):
            raise InputError(
                f"The run settings {name} have {data[key]!r} for method.{key}; give a number from 0"
                " to 1."
            )
    settings = MethodSettings(**{**data, "without": tuple(data.get("without", LEFT_OUT))})
    if settings.name not in METHODS:
        raise InputError(
            f"There is no method '{settings.name}'; choose one of {', '.join(METHODS)}."
        )
    _check_parts(settings.without, "leave out")
    return settings


def left_out(
    default: Sequence[str], without: Sequence[str], extra: Sequence[str]
) -> tuple[str, ...]:
    """The parts of VerSemi that a run is without.

    Args:
        default: parts that it is without where nothing is said.
        without: parts to leave out.
        extra: parts to put back.

    Raises:
        InputError: a part is not known, is to be put back and left out, or is to be put back where
            the one that it lives on is not.
    """
    _check_parts(without, "leave out")
    _check_parts(extra, "put back")
    both = sorted(set(without) & set(extra))
    if both:
        raise InputError(f"The part {both[0]} cannot be both left out and put back; choose one.")
    kept = [part for part in default if part not in extra]
    left = tuple(dict.fromkeys([*kept, *without]))
    for part in extra:
        if LIVES_ON.get(part) in left:
            raise InputError(
                f"The part {part} lives on {LIVES_ON[part]}, which this run is without; put that "
                "back, too."
            )
    return left


def _check_parts(parts: Sequence[str], what: str) -> None:
    for part in parts:
        if part not in PARTS:
            raise InputError(
                f"There is no part '{part}' to {what}; the parts are {', '.join(PARTS)}."
            )


def network_settings(
    prompts: set[str], method: MethodSettings, data: Mapping[str, Any]
) -> NetworkSettings:
    """The network for some prompts, in the registry's order, *foreground* last where it is used."""
    ordered = sorted(prompts, key=lambda p: get_task(p).label)
    foreground = (FOREGROUND,) if method.has("foreground") else ()
    return NetworkSettings(
        prompts=(*ordered, *foreground),
        backbone=str(data["backbone"]),
        features=int(data["features"]),
    )


def settings_for_folders(folders: Sequence[Path], base: RunSettings) -> RunSettings:
    """A run on a user's own data sets, each labelled as its ``dataset.json`` says.

    Everything else is as in `base`: weights of the objective, rate, length.

    Args:
        folders: data sets in the Decathlon or nnU-Net layout.
        base: settings to start from.

    Returns:
        The settings; their folders are absolute.

    Raises:
        InputError: a folder cannot be used, has no label, or names a structure that is no prompt.
    """
    sources = []
    for number, path in enumerate(folders):
        opened = DataFolder.open(path)
        if not opened.table:
            raise InputError(
                f"{path} has no table of labels; say in {path / 'dataset.json'} under 'labels' "
                "what each label value is."
            )
        tasks = {value: prompt_named(name, path) for value, name in opened.table.items()}
        groups = {task.group for task in tasks.values()}
        if len(groups) > 1:
            raise InputError(
                f"{path} mixes prompts of {', '.join(sorted(groups))}; make one data set of each."
            )
        group = groups.pop()
        sources.append(
            {
                "name": stem_of(path) if len(folders) == 1 else f"{number}-{stem_of(path)}",
                "folder": str(path.resolve()),
                "group": group,
                "labels": {value: task.id for value, task in tasks.items()},
                "crop": list(base.groups[group].window),
                "weight": 1.0,
                "coarse_weight": 0.25 if base.groups[group].coarse else 0.0,
            }
        )
    prompts = {p for source in sources for p in source["labels"].values()}  # type: ignore[attr-defined]
    named = [source["name"] for source in sources]
    network = network_settings(
        prompts, base.method, {"backbone": base.network.backbone, "features": base.network.features}
    )
    pack = {
        "name": "-".join(str(name) for name in named),
        "version": "1.0.0",
        "search": {"prompts_of": [s["name"] for s in sources if s["coarse_weight"]]},
        "keep_all": sorted(prompts),
        "min_ml": 0.0,
    }
    return replace(base, sources=tuple(sources), network=network, pack=pack)


def prompt_named(name: str, path: Path) -> Task:
    """The prompt that a data set calls `name`, whatever the order and spelling of its words.

    Raises:
        InputError: there is none.
    """
    words = _words(name)
    for task in TASKS.values():
        if task.id != FOREGROUND and words in (_words(task.id), _words(task.name)):
            return task
    known = ", ".join(t for t in TASKS if t != FOREGROUND)
    raise InputError(
        f"{path / 'dataset.json'} has the label '{name}', which is no task prompt; use the names "
        f"of prompts there ({known})."
    )


def _words(name: str) -> frozenset[str]:
    lowered = name.lower().replace("_", " ").replace("-", " ").replace("tumor", "tumour")
    return frozenset(lowered.split())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Mappings and sequences as dicts and lists, for YAML and JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
