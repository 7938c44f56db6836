"""The benchmark: which runs a protocol is measured with, their results, and the page about them."""
