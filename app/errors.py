"""The one error tree. A message names the bad value and the way out."""


class LookalikeError(Exception):
    """Base of every error that a user can cause or mend; its message is fit to be shown as it is."""


class ConfigurationError(LookalikeError):
    """A setting, an extra or an environment variable is missing or wrong."""


class DatabaseUnavailableError(LookalikeError):
    """The database cannot be reached, or went away in the middle of something that may be tried again."""


class DatabaseRefusedError(DatabaseUnavailableError):
    """The server is there and lets nobody in by this name and password, or has no such database."""


class SchemaError(LookalikeError):
    """The database has no Lookalike schema, another revision of it, or too old an extension or server."""


class InvalidInputError(LookalikeError):
    """A value from outside (a filter, a vector, a path, an option) is malformed."""


class NotFoundError(LookalikeError):
    """The image, embedding or embedding space asked for does not exist."""


class ConflictError(LookalikeError):
    """The change collides with what is stored: a duplicate uri, a name already taken."""


class BuildRunningError(ConflictError):
    """Another session is building the index of this embedding space."""


class AuthenticationError(LookalikeError):
    """No API key was sent, or one that is unknown, expired or revoked."""


class ForbiddenError(LookalikeError):
    """The caller is known, or known to need no key, and may not do this."""


class SpaceChangedError(ConflictError):
    """The embedding space that a query was embedded in is not the active one any more: embed it again."""


class NoWorkerError(LookalikeError):
    """No live worker serves the embedding space, so a query image cannot be embedded now."""


class QueryTimeoutError(LookalikeError):
    """Live workers did not embed a query image in the time allowed."""


class OverloadedError(LookalikeError):
    """As much is being done as may be at once."""


class StorageError(LookalikeError):
    """The place where uploaded files are stored cannot be written just now."""


class ImageError(LookalikeError):
    """An image cannot be embedded. `step` says where it failed: fetch, decode, transform, encode or write."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class TransientImageError(ImageError):
    """The same image may well succeed later: a time-out, a refused connection, a server's 5xx."""
