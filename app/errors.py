"""The error tree. Each message names the bad value and the way out."""


class LookalikeError(Exception):
    """Base of all errors that a user can cause or fix. Users can read its message as it stands."""


class ConfigurationError(LookalikeError):
    """A setting, an extra or an environment variable is missing or wrong."""


class DatabaseUnavailableError(LookalikeError):
    """The database is unreachable, or the connection broke; the same call may succeed later."""


class QueryCanceledError(DatabaseUnavailableError):
    """The server ended a statement: it took longer than statement_timeout, or somebody canceled it."""


class DatabaseRefusedError(DatabaseUnavailableError):
    """The server rejected the user, password or database name."""


class SchemaError(LookalikeError):
    """The Lookalike schema is missing or at another revision, or the server or pgvector is too old."""


class InvalidInputError(LookalikeError):
    """A filter, vector, path, option or other input is malformed."""


class NotFoundError(LookalikeError):
    """The requested image, embedding or embedding space does not exist."""


class ConflictError(LookalikeError):
    """The change conflicts with stored data, such as a duplicate uri or a name in use."""


class BuildRunningError(ConflictError):
    """Another session is building the index of this embedding space."""


class AuthenticationError(LookalikeError):
    """The API key is missing, unknown, expired or revoked."""


class ForbiddenError(LookalikeError):
    """The caller is authenticated, or needs no key, but lacks the permission."""


class SpaceChangedError(ConflictError):
    """The active space changed after the query was embedded: embed the query again."""


class NoWorkerError(LookalikeError):
    """No live worker serves the embedding space, so nothing can embed a query image now."""


class QueryTimeoutError(LookalikeError):
    """Live workers did not embed a query image before the timeout."""


class OverloadedError(LookalikeError):
    """A concurrency limit is reached."""


class StorageError(LookalikeError):
    """The storage for uploaded files cannot be used now."""


class ImageError(LookalikeError):
    """An image cannot be embedded. `step` is the stage that failed: fetch, decode, transform, encode or write."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class TransientImageError(ImageError):
    """A retry of the image may succeed, as after a timeout, a refused connection or a server's 5xx."""
