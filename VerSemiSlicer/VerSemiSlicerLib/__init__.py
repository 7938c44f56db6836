"""What the VerSemi module is made of, one collaborator a file.

Importing this package imports neither Qt nor anything from outside Slicer: the logic runs in a
test, a script or a notebook as it does under the panel.
"""
