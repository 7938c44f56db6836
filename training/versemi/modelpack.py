"""Model packs: a folder with weights that cannot run code, and a manifest that explains them.

``model.safetensors`` holds the weights, in half precision or in eight bits: those of a network that
all prompt groups share, and of the networks that groups got when they learnt by themselves.
``manifest.json`` says what they are for, ``README.md`` is the model card and ``LICENSE`` the
weights' own licence. The manifest carries the SHA-256 of the weights and of itself. Loading a
manifest imports nothing heavy; torch comes in when the network is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.errors import InputError, OutputError, PackError
from versemi.tasks import FIRST_OWN_LABEL, FOREGROUND, TASKS, Code, Task, adopt

if TYPE_CHECKING:
    from versemi.network import GroupNetworks, PromptedNetwork
    from versemi.preprocessing import GroupSettings

KIND = "versemi-model-pack"
FORMAT = 3
# A pack has the lowest format that it can, so that earlier versions read it: with groups that have
# left the shared network 2, with weights in eight bits 3.
_FORMAT_OF_ONE, _FORMAT_OF_SEVERAL = 1, 2
WEIGHTS = "model.safetensors"
#: What a manifest's network says of groups that have left the shared one, if any has.
OWN = "own"
#: What it says of the weights' precision, if that is not half.
PRECISION, INT8 = "precision", "int8"
MANIFEST = "manifest.json"
_LARGEST_WEIGHTS = 512 * 2**20


@dataclass(frozen=True)
class PromptSettings:
    """How a pack treats one prompt.

    Attributes:
        task: the prompt.
        search: whether the coarse pass was taught to find it; if not, the fine pass looks
            everywhere.
        keep: ``"largest"`` keeps the largest connected component, ``"all"`` keeps those of at
            least `min_ml`.
        min_ml: smallest component that is kept, in millilitres.
        dice: measured mean Dice on cases that were kept out of training, if it was measured.
    """

    task: Task
    search: bool = False
    keep: str = "all"
    min_ml: float = 0.0
    dice: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What a pack says of itself; the ``manifest.json`` in memory."""

    name: str
    version: str
    network: Mapping[str, Any]
    prompts: tuple[PromptSettings, ...]
    groups: Mapping[str, GroupSettings]
    training: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, without checksums."""
        return {
            "kind": KIND,
            "format": self._format(),
            "name": self.name,
            "version": self.version,
            "parent": self.parent,
            "network": dict(self.network),
            "tasks": [_task_to_json(prompt) for prompt in self.prompts],
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "training": dict(self.training),
        }

    def _format(self) -> int:
        if self.network.get(PRECISION):
            return FORMAT
        return _FORMAT_OF_SEVERAL if self.network.get(OWN) else _FORMAT_OF_ONE


@dataclass(frozen=True)
class ModelPack:
    """A pack on disk whose checksums have been compared.

    Attributes:
        path: the folder.
        manifest: what it says.
        digest: SHA-256 of the weights, which names the pack's computations in caches.
    """

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelPack:
        """Open a pack.

        Raises:
            PackError: missing, damaged, foreign, or made for a newer format.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise PackError(f"There is no model pack at {folder}; give the folder of one.")
        data = _read_manifest(folder)
        digest = _digest(folder / WEIGHTS)
        if digest != data["sha256"].get(WEIGHTS):
            raise PackError(
                f"The weights of the model pack {folder} are damaged (checksum "
                f"{digest[:12]} instead of {str(data['sha256'].get(WEIGHTS))[:12]}); copy the "
                "pack again from where it came."
            )
        return cls(folder, _manifest_from_json(data, folder), digest)

    @property
    def name(self) -> str:
        """The pack's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The pack's version."""
        return self.manifest.version

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The prompts that can be asked, without *foreground*."""
        return tuple(p.task for p in self.manifest.prompts)

    @property
    def task_ids(self) -> tuple[str, ...]:
        """Identifiers of :attr:`tasks`."""
        return tuple(task.id for task in self.tasks)

    def settings(self, prompt: str) -> PromptSettings:
        """The pack's settings for a prompt.

        Raises:
            InputError: the pack does not know it.
        """
        for entry in self.manifest.prompts:
            if entry.task.id == prompt:
                return entry
        if prompt == FOREGROUND:
            raise InputError(
                "The prompt 'foreground' never enters a label map; ask for the structures "
                f"themselves: {', '.join(self.task_ids)}."
            )
        raise InputError(
            f"The pack {self.name} {self.version} does not know the prompt '{prompt}'; it knows "
            f"{', '.join(self.task_ids)}."
        )

    def license(self) -> dict[str, str]:
        """The licence as a text by its name, for :func:`write_pack`; empty where there is none."""
        path = self.path / "LICENSE"
        return {path.name: path.read_text(encoding="utf-8")} if path.is_file() else {}

    def network_of(self, group: str) -> str:
        """The name of the network that answers a group's prompts; empty for the shared one."""
        return str(self.manifest.network.get(OWN, {}).get(group, ""))

    def build_network(self, group: str | None = None) -> PromptedNetwork:
        """As :meth:`build_networks`; the network of a group, or the shared one."""
        networks = self.build_networks()
        return networks.shared if group is None else networks.of(group)

    def build_networks(self) -> GroupNetworks:
        """Build the pack's networks with its weights, float32, ready for inference.

        Raises:
            PackError: the weights do not fit the network that the manifest describes.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from versemi.network import GroupNetworks, NetworkSettings
        from versemi.network.precision import unpacked

        described = self.manifest.network
        try:
            settings = NetworkSettings(
                prompts=tuple(described["prompts"]),
                backbone=str(described["backbone"]),
                features=int(described["features"]),
            )
            names = dict(described.get(OWN, {}))
            tensors = unpacked(load_file(self.path / WEIGHTS))
            return GroupNetworks.from_tensors(settings, tensors, names)
        except OSError as error:
            # The pack may have been deleted since its checksum was read.
            raise PackError(
                f"The weights {self.path / WEIGHTS} cannot be read any more"
                f" ({error.strerror or error}); copy the pack again, or choose another."
            ) from None
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            # torch says in its first line only that something is wrong.
            reason = " ".join(line.strip() for line in str(error).splitlines()[:2])[:200]
            raise PackError(
                f"The weights of {self.path} do not fit the network its manifest describes "
                f"({reason}); copy the pack again or update VerSemi."
            ) from None


def write_pack(
    path: str | os.PathLike[str],
    network: PromptedNetwork | GroupNetworks,
    manifest: Manifest,
    texts: Mapping[str, str] | None = None,
) -> ModelPack:
    """Write a pack; a pack that was there is replaced only when the new one is whole.

    Args:
        path: the pack's folder.
        network: several where groups have their own.
        manifest: what to say of it; which group has which network is added. Weights are stored in
            half precision, or as its `PRECISION` says.
        texts: further files by name, such as ``README.md`` and ``LICENSE``.

    Raises:
        OutputError: the disk is full or may not be written.
    """
    from safetensors.torch import save

    from versemi.network import GroupNetworks
    from versemi.network.precision import packed

    folder = Path(path)
    networks = network if isinstance(network, GroupNetworks) else GroupNetworks(network)
    tensors = {name: value.detach().cpu() for name, value in networks.tensors().items()}
    int8 = manifest.network.get(PRECISION) == INT8
    stored = packed(tensors) if int8 else {name: value.half() for name, value in tensors.items()}
    weights = save({name: value.contiguous() for name, value in stored.items()})
    described = {k: v for k, v in manifest.network.items() if k != OWN}
    own = {OWN: networks.names()} if networks.own else {}
    manifest = replace(manifest, network={**described, **own})
    data = manifest.to_json()
    data["sha256"] = {WEIGHTS: hashlib.sha256(weights).hexdigest()}
    data["sha256"][MANIFEST] = _manifest_digest(data)
    files = {name: text.encode() for name, text in (texts or {}).items()}
    files[WEIGHTS] = weights
    files[MANIFEST] = (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        _replace_folder(folder, files)
    except OSError as error:
        raise OutputError(
            f"The model pack could not be written to {folder} ({error.strerror}); free some space "
            "or choose another folder."
        ) from None
    return ModelPack.load(folder)


def default_pack_path() -> Path:
    """Find the pack that ships: ``VERSEMI_PACK``, else ``Resources/Models/versemi-base`` above.

    Raises:
        PackError: there is none; the message says how to name one.
    """
    named = os.environ.get("VERSEMI_PACK")
    if named:
        return Path(named)
    for parent in Path(__file__).resolve().parents:
        candidate = parent / "Resources" / "Models" / "versemi-base"
        if (candidate / MANIFEST).is_file():
            return candidate
    raise PackError(
        "The model pack versemi-base is not beside this installation; name a pack with --pack or "
        "the environment variable VERSEMI_PACK."
    )


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    aside = temporary.with_name(temporary.name + ".old")
    try:
        temporary.chmod(0o755)
        for name, content in files.items():
            with open(temporary / name, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        if folder.exists():
            os.replace(folder, aside)
        os.replace(temporary, folder)
    except OSError:
        if aside.exists() and not folder.exists():
            os.replace(aside, folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _task_to_json(prompt: PromptSettings) -> dict[str, Any]:
    task = prompt.task
    own = {"own": asdict(task)} if task.label >= FIRST_OWN_LABEL else {}
    return {
        **own,
        "id": task.id,
        "name": task.name,
        "label": task.label,
        "terminology": task.terminology,
        "color": list(task.color),
        "modality": task.modality,
        "group": task.group,
        "search": prompt.search,
        "keep": prompt.keep,
        "min_ml": prompt.min_ml,
        "dice": prompt.dice,
    }


def _own_task(data: Mapping[str, Any]) -> Task:
    """A prompt that a user has added, from its description in a manifest."""
    codes = {key: Code(**data[key]) for key in ("category", "type", "modifier") if data[key]}
    task = Task(**{**data, **codes, "color": tuple(int(c) for c in data["color"])})
    try:
        return adopt(task)
    except InputError as error:
        raise PackError(str(error)) from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise PackError(f"{folder} is not a model pack: it has no {MANIFEST}.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(
            f"The manifest {path} is damaged ({error}); copy the pack again from where it came."
        ) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise PackError(f"{folder} is not a VerSemi model pack; its manifest is of another kind.")
    if not isinstance(data.get("format"), int) or data["format"] > FORMAT:
        raise PackError(
            f"The model pack {folder} has format {data.get('format')!r}, and this version reads "
            f"up to {FORMAT}; update VerSemi."
        )
    checks = data.get("sha256")
    if not isinstance(checks, dict) or checks.get(MANIFEST) != _manifest_digest(data):
        raise PackError(
            f"The manifest {path} was changed after the pack was made; copy the pack again from "
            "where it came."
        )
    return data


def _manifest_digest(data: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content without its own checksum, whatever its white space."""
    checks = {k: v for k, v in data.get("sha256", {}).items() if k != MANIFEST}
    content = json.dumps({**data, "sha256": checks}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS:
            raise PackError(f"{path} is larger than 512 MiB, so it is no pack of this network.")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PackError(
            f"The weights {path} cannot be read ({error.strerror}); copy the pack again."
        ) from None


def _manifest_from_json(data: Mapping[str, Any], folder: Path) -> Manifest:
    # Preprocessing brings numpy and SimpleITK; only who loads a pack pays for them.
    from versemi.preprocessing import GroupSettings

    try:
        prompts = []
        for entry in data["tasks"]:
            task = _own_task(entry["own"]) if "own" in entry else TASKS.get(entry["id"])
            if task is None or task.label != entry["label"]:
                raise PackError(
                    f"The model pack {folder} answers a prompt '{entry['id']}' with label "
                    f"{entry['label']} that this version does not know; update VerSemi."
                )
            # A pack prepares scans as it learnt to, whatever group later ones put a prompt into.
            task = replace(task, group=str(entry["group"]))
            if entry["keep"] not in ("largest", "all"):
                raise PackError(f"The model pack {folder} wants clean-up '{entry['keep']}'.")
            prompts.append(
                PromptSettings(
                    task,
                    search=bool(entry["search"]),
                    keep=str(entry["keep"]),
                    min_ml=float(entry["min_ml"]),
                    dice=None if entry["dice"] is None else float(entry["dice"]),
                )
            )
        labels = [p.task.label for p in prompts]
        for prompt in prompts:
            if labels.count(prompt.task.label) > 1:
                raise PackError(
                    f"The model pack {folder} has several prompts with the label "
                    f"{prompt.task.label}; give each a label of its own."
                )
        groups = {name: GroupSettings.from_json(g) for name, g in data["groups"].items()}
        missing = {p.task.group for p in prompts} - set(groups)
        if missing:
            raise PackError(f"The model pack {folder} says nothing of the group {min(missing)}.")
        return Manifest(
            name=str(data["name"]),
            version=str(data["version"]),
            network=data["network"],
            prompts=tuple(prompts),
            groups=groups,
            training=data.get("training", {}),
            parent=data.get("parent"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackError(f"The manifest of {folder} lacks or misstates {error}.") from None
