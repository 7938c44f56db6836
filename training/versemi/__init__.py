"""VerSemi: one task-prompted network that segments many structures from few labels.

Zeng et al., *Segment Together: A Versatile Paradigm for Semi-Supervised Medical Image
Segmentation*, arXiv 2311.11686. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
