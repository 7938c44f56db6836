"""A pack learns from the cases of a library; ``docs/finetuning.md`` explains how."""
