"""What can go wrong, each with one sentence that a user can act on."""


class VersemiError(Exception):
    """Base of all errors whose message is meant for the user: what is wrong, and what to do."""


class InputError(VersemiError):
    """The image, the region, the prompt or an option cannot be used as given."""


class PackError(VersemiError):
    """A model pack is damaged, foreign, or made for a newer format."""


class OutputError(VersemiError):
    """A result could not be written; nothing half-written is left behind."""


class Cancelled(VersemiError):
    """The caller asked to stop; raised between two windows."""
