"""The error that a user can mend."""


class UserError(Exception):
    """A mistake the user can mend: says what was found, where, what was expected and what to do."""
