"""Model packs: a folder with weights that cannot run code, and a manifest that explains them.

``model.safetensors`` holds the weights, in half precision or in eight bits: those of a network that
all prompt groups share, and of the networks that groups got when they learnt by themselves.
``manifest.json`` says what they are for, ``README.md`` is the model card and ``LICENSE`` the
weights' own licence. torch comes in when the network is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from versemi.errors import InputError, OutputError, PackError
from versemi.manifest import (
    INT8,
    MANIFEST,
    OWN,
    PRECISION,
    WEIGHTS,
    Manifest,
    PromptSettings,
    manifest_digest,
    manifest_of,
    read_manifest,
)
from versemi.tasks import FOREGROUND, Task

if TYPE_CHECKING:
    from versemi.network import GroupNetworks, PromptedNetwork

_LARGEST_WEIGHTS = 512 * 2**20


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
        data = read_manifest(folder)
        digest = _digest(folder / WEIGHTS)
        if digest != data["sha256"].get(WEIGHTS):
            raise PackError(
                f"The weights of the model pack {folder} are damaged (checksum "
                f"{digest[:12]} instead of {str(data['sha256'].get(WEIGHTS))[:12]}); copy the "
                "pack again from where it came."
            )
        return cls(folder, manifest_of(data, folder), digest)

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
    data["sha256"][MANIFEST] = manifest_digest(data)
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


def _digest(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS:
            raise PackError(f"{path} is larger than 512 MiB, so it is no pack of this network.")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PackError(
            f"The weights {path} cannot be read ({error.strerror}); copy the pack again."
        ) from None
