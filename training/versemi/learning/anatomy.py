"""What cannot be on the scans of a data set, whoever was scanned.

A prompt's answer on a scan that cannot hold its structure is wrong wherever it has a voxel, without
any label. Only what anatomy excludes counts: a data set whose scans *might* show a structure, if
only at their edge, is left out for that prompt, since its labels do not say. So this table errs
towards leaving out. `docs/false-positives.md` repeats it, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

_ABDOMINAL = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
_HIPPOCAMPUS = ("hippocampus_anterior", "hippocampus_posterior")


@dataclass(frozen=True)
class Shown:
    """A data set's field of view.

    Attributes:
        scans: what they are and how far they reach, in words.
        excluded: prompts whose structure cannot be there.
        not_counted: prompts that are neither labelled there nor excluded, and why, in words.
    """

    scans: str
    excluded: tuple[str, ...]
    not_counted: str


#: By the data set's folder.
SHOWN: dict[str, Shown] = {
    "abdomen": Shown(
        "CT from the lung bases to the pelvis",
        excluded=_HIPPOCAMPUS,
        not_counted="lung tumour (the lung bases are shown and may hold one), left atrium (the top"
        " slices may cut the heart)",
    ),
    "left_atrium": Shown(
        "MR of the heart, about 12 cm wide, 9 cm deep and 5.5 cm high around the left atrium",
        excluded=(
            "spleen",
            "right_kidney",
            "left_kidney",
            "gallbladder",
            "portal_and_splenic_veins",
            "pancreas",
            "right_adrenal_gland",
            "left_adrenal_gland",
            *_HIPPOCAMPUS,
        ),
        not_counted="aorta, esophagus and inferior vena cava (they pass the atrium), liver and"
        " stomach (their domes may reach the lowest slices), lung tumour (lung is shown beside the"
        " heart)",
    ),
    "lung_tumour": Shown(
        "CT cubes of 92 mm around a lung tumour, anywhere in the lungs",
        excluded=_HIPPOCAMPUS,
        not_counted="every organ of the abdomen and the left atrium (a tumour near the diaphragm or"
        " the heart has them in its cube)",
    ),
    "hippocampus": Shown(
        "T1 MR of one temporal lobe, about 35 x 51 x 35 mm",
        excluded=("left_atrium", "lung_tumour", *_ABDOMINAL),
        not_counted="none",
    ),
}


def excluded(dataset: str, prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some prompts that cannot be on a data set's scans; none if it is not in the table.

    Args:
        dataset: name of its folder.
        prompts: identifiers.

    Example:
        >>> excluded("abdomen", ("liver", "hippocampus_anterior"))
        ('hippocampus_anterior',)
    """
    if dataset not in SHOWN:
        return ()
    return tuple(prompt for prompt in prompts if prompt in SHOWN[dataset].excluded)


def table() -> str:
    """:data:`SHOWN` as a table in Markdown."""
    lines = ["| data set | its scans | cannot be there | not counted |", "|---|---|---|---|"]
    for name, shown in SHOWN.items():
        ids = ", ".join(f"`{prompt}`" for prompt in shown.excluded)
        lines.append(f"| {name} | {shown.scans} | {ids} | {shown.not_counted} |")
    return "\n".join(lines)
