"""Training: everything that the worker never imports."""
