"""The task prompts that a model pack knows, as the panel shows them."""

from collections.abc import Sequence
from typing import Any


class PromptCatalog:
    """The prompts of one model pack, in groups, and what there is to say about a choice of them.

    `tasks` are the engine's Task objects in label order; `packName` and `packVersion` say which
    model answers them.
    """

    def __init__(
        self, tasks: Sequence[Any] = (), packName: str = "", packVersion: str = ""
    ) -> None:
        self.use(tasks, packName, packVersion)

    def use(self, tasks: Sequence[Any], packName: str, packVersion: str) -> None:
        """Becomes the catalog of another pack, for everybody who holds it."""
        self.tasks = tuple(tasks)
        self.packName = packName
        self.packVersion = packVersion
        self._byId = {task.id: task for task in self.tasks}

    def __contains__(self, promptId: str) -> bool:
        return promptId in self._byId

    def task(self, promptId: str) -> Any:
        return self._byId[promptId]

    def groups(self) -> list[tuple[str, list[Any]]]:
        """(title, prompts) for each body region and modality, in label order."""
        groups: dict[str, list[Any]] = {}
        for task in self.tasks:
            title = f"{task.region.capitalize()} \N{MIDDLE DOT} {task.modality}"
            groups.setdefault(title, []).append(task)
        return list(groups.items())

    def inOrder(self, promptIds: Sequence[str]) -> list[str]:
        """The known ones of `promptIds`, in label order and each once."""
        chosen = set(promptIds)
        return [task.id for task in self.tasks if task.id in chosen]

    @staticmethod
    def matches(task: Any, text: str) -> bool:
        """Whether every word of the search text occurs in what is known of the prompt."""
        known = " ".join(
            [task.id, task.name, task.region, task.modality, task.type.meaning, task.type.value]
        ).lower()
        return all(word in known for word in text.lower().split())

    def mismatch(self, promptIds: Sequence[str], modality: str) -> str:
        """A warning where prompts were learnt on another modality than the volume's, else ""."""
        others = [
            self._byId[p] for p in promptIds if p in self and self._byId[p].modality != modality
        ]
        if not others or not modality:
            return ""
        wanted = " and ".join(sorted({task.modality for task in others}))
        names = ", ".join(task.name for task in others[:3])
        if len(others) > 3:
            names += f" and {len(others) - 3} more"
        return (
            f"The volume is taken for {modality}, but {names} learnt from {wanted}: "
            "the result will probably be wrong."
        )
