"""Segmenting a scan under task prompts with a model pack. Imports no training code."""

from versemi.inference.result import Segmentation
from versemi.inference.segmenter import Segmenter

__all__ = ["Segmentation", "Segmenter"]
