"""Errors whose message is one sentence for the user: what is wrong, and what to do."""


class UserError(Exception):
    """Something that the user can put right; shown as it stands, without a traceback."""
