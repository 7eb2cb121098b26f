"""The error that a user can mend."""


class UserError(Exception):
    """A mistake the user can mend; the message names the place, the fault, the expectation and the remedy."""
