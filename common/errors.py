"""Errors a user can cause: each message says in one sentence what, where and what to do."""


class UserError(ValueError):
    """Base of all; entry points print its message without a traceback and exit with status 2."""


class DataError(UserError):
    """Data that cannot be used, or a request that does not fit it."""


class ImageError(UserError):
    """An image that cannot be used; one such image never stops the others."""


class WeightsError(UserError):
    """Weights, a checkpoint or a device that cannot be used."""
