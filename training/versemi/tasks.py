"""The registry of task prompts: what a user may ask for, and what each answer means.

Codes are SNOMED CT. Label values are fixed for good: a label map written today reads the same
with every later model pack. Prompts that users add to a pack of their own are described in its
manifest, have labels from `FIRST_OWN_LABEL` on, and join the registry when the pack is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from versemi.errors import InputError

FOREGROUND = "foreground"
FIRST_OWN_LABEL = 100
LAST_OWN_LABEL = 254


@dataclass(frozen=True)
class Code:
    """A coded concept, as in DICOM: ``value`` in ``scheme``, with its ``meaning`` in words."""

    value: str
    meaning: str
    scheme: str = "SCT"

    @property
    def triplet(self) -> str:
        """The code as Slicer's terminology strings write it, ``scheme^value^meaning``."""
        return f"{self.scheme}^{self.value}^{self.meaning}"


@dataclass(frozen=True)
class Task:
    """One task prompt.

    Attributes:
        id: the name used in code, files and on the command line.
        name: the name shown to people.
        label: value in a label map; 0 is background.
        category, type, modifier: SNOMED CT category, type and, for sided organs, the side.
        color: recommended display colour, RGB in 0..255; near Slicer's own for the structure, and
            moved where neighbours could not be told apart.
        modality: ``"CT"`` or ``"MR"``; empty for *foreground*, which belongs to all.
        group: prompts of one group share spacing and intensity normalisation, so one backbone
            pass answers them all: ``"ct"``, ``"ct_fine"``, ``"lge_mr"``, ``"t1_mr"``.
        region: body region in words.
        mirror: the prompt that takes this one's place when an image is flipped left to right.
        note: where the code is only the nearest one, says so.
    """

    id: str
    name: str
    label: int
    category: Code
    type: Code
    color: tuple[int, int, int]
    modality: str
    group: str
    region: str
    modifier: Code | None = None
    mirror: str | None = None
    note: str = ""

    @property
    def terminology(self) -> str:
        """The prompt's entry in the form of Slicer's segment terminology tag."""
        modifier = self.modifier.triplet if self.modifier else "^^"
        return "~".join(
            [
                "Segmentation category and type - 3D Slicer General Anatomy list",
                self.category.triplet,
                self.type.triplet,
                modifier,
                "Anatomic codes - DICOM master list",
                "^^",
                "^^",
            ]
        )


_ANATOMY = Code("123037004", "Anatomical Structure")
_ABNORMAL = Code("49755003", "Morphologically Altered Structure")
_TISSUE = Code("85756007", "Tissue")
_RIGHT = Code("24028007", "Right")
_LEFT = Code("7771000", "Left")
_KIDNEY = Code("64033007", "Kidney")
_ADRENAL = Code("23451007", "Adrenal gland")
_HIPPOCAMPUS = Code("5366008", "Hippocampus")


def _ct(
    id: str,
    name: str,
    label: int,
    type: Code,
    color: tuple[int, int, int],
    modifier: Code | None = None,
    mirror: str | None = None,
    note: str = "",
) -> Task:
    return Task(
        id, name, label, _ANATOMY, type, color, "CT", "ct", "abdomen", modifier, mirror, note
    )


_ALL = (
    Task(
        "left_atrium",
        "Left atrium",
        1,
        _ANATOMY,
        Code("82471001", "Left atrium"),
        (196, 66, 92),
        "MR",
        "lge_mr",
        "heart",
    ),
    Task(
        "lung_tumour",
        "Lung tumour",
        2,
        _ABNORMAL,
        Code("108369006", "Neoplasm"),
        (144, 238, 144),
        "CT",
        "ct_fine",
        "chest",
        note="The type is any neoplasm; that it lies in the lung is not part of the code.",
    ),
    _ct("spleen", "Spleen", 3, Code("78961009", "Spleen"), (157, 108, 162)),
    _ct("pancreas", "Pancreas", 4, Code("15776009", "Pancreas"), (249, 200, 80)),
    _ct("liver", "Liver", 5, Code("10200004", "Liver"), (221, 130, 101)),
    _ct("right_kidney", "Right kidney", 6, _KIDNEY, (150, 85, 60), _RIGHT, "left_kidney"),
    _ct("left_kidney", "Left kidney", 7, _KIDNEY, (240, 150, 170), _LEFT, "right_kidney"),
    _ct("gallbladder", "Gallbladder", 8, Code("28231008", "Gallbladder"), (90, 160, 70)),
    _ct("esophagus", "Esophagus", 9, Code("32849002", "Esophagus"), (225, 200, 150)),
    _ct("stomach", "Stomach", 10, Code("69695003", "Stomach"), (120, 200, 190)),
    _ct("aorta", "Aorta", 11, Code("15825003", "Aorta"), (224, 50, 45)),
    _ct(
        "inferior_vena_cava",
        "Inferior vena cava",
        12,
        Code("64131007", "Inferior vena cava"),
        (0, 151, 206),
    ),
    _ct(
        "portal_and_splenic_veins",
        "Portal and splenic veins",
        13,
        Code("32764006", "Portal vein"),
        (60, 80, 190),
        note="One prompt for two veins; the nearest single concept is the portal vein.",
    ),
    _ct(
        "right_adrenal_gland",
        "Right adrenal gland",
        14,
        _ADRENAL,
        (255, 110, 200),
        _RIGHT,
        "left_adrenal_gland",
    ),
    _ct(
        "left_adrenal_gland",
        "Left adrenal gland",
        15,
        _ADRENAL,
        (170, 90, 250),
        _LEFT,
        "right_adrenal_gland",
    ),
    Task(
        "hippocampus_anterior",
        "Anterior hippocampus",
        16,
        _ANATOMY,
        _HIPPOCAMPUS,
        (168, 168, 92),
        "MR",
        "t1_mr",
        "brain",
        modifier=Code("255549009", "Anterior"),
        note="No concept for this part alone; hippocampus with the modifier anterior.",
    ),
    Task(
        "hippocampus_posterior",
        "Posterior hippocampus",
        17,
        _ANATOMY,
        _HIPPOCAMPUS,
        (92, 168, 140),
        "MR",
        "t1_mr",
        "brain",
        modifier=Code("255551008", "Posterior"),
        note="No concept for this part alone; hippocampus with the modifier posterior.",
    ),
    Task(
        FOREGROUND,
        "Foreground (any task)",
        255,
        _TISSUE,
        _TISSUE,
        (128, 174, 128),
        "",
        "",
        "any",
        note="Whatever any task calls foreground; never part of a label map.",
    ),
)

TASKS: dict[str, Task] = {task.id: task for task in _ALL}


def is_own(task: Task) -> bool:
    """Whether a prompt has a label of those that users add."""
    return FIRST_OWN_LABEL <= task.label <= LAST_OWN_LABEL


def own_group(beside: str, id: str) -> str:
    """The group of a user's own prompt, whose scans are prepared as those of `beside`."""
    return f"{beside}-{id}"


def adopt(task: Task) -> Task:
    """Let a prompt that a user has added join the registry of this process.

    Raises:
        InputError: its identifier or its label means something else here.
    """
    for known in TASKS.values():
        if known == task:
            return known
        if known.id == task.id:
            raise InputError(
                f"There is a prompt '{task.id}' already, with label {known.label} and another "
                "meaning; choose another name."
            )
        # Two packs may each have a prompt of their own with one label: only one pack is asked.
        if known.label == task.label and not is_own(known):
            raise InputError(
                f"The prompt '{task.id}' wants the label {task.label}, which belongs to "
                f"'{known.id}'; choose another label."
            )
    if not is_own(task):
        raise InputError(
            f"The prompt '{task.id}' wants the label {task.label}; those of one's own prompts are "
            f"{FIRST_OWN_LABEL} to {LAST_OWN_LABEL}."
        )
    TASKS[task.id] = task
    return task


def get_task(id: str) -> Task:
    """Return the prompt with identifier `id`.

    Raises:
        InputError: no such prompt; the message lists those that there are.

    Example:
        >>> get_task("spleen").name
        'Spleen'
    """
    try:
        return TASKS[id]
    except KeyError:
        known = ", ".join(t for t in TASKS if t != FOREGROUND)
        raise InputError(f"There is no task prompt '{id}'; known prompts are {known}.") from None


def prompts_of(group: str, prompts: Iterable[str]) -> list[str]:
    """Those of some prompts that belong to a group, in their order."""
    return [prompt for prompt in prompts if TASKS[prompt].group == group]


def mirrored(id: str) -> str:
    """Return the prompt that `id` becomes when the image is flipped left to right.

    Example:
        >>> mirrored("left_kidney"), mirrored("liver")
        ('right_kidney', 'liver')
    """
    return get_task(id).mirror or id
