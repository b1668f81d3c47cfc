"""Retries S3 requests, and translates final failures into errors of an object or of the storage.

boto3 itself retries a request a few times (``AWS_MAX_ATTEMPTS``, ``AWS_RETRY_MODE``). Here it is
retried for minutes, with full jitter (a random wait between 0 and a limit that doubles). That suits
thousands of clients that are throttled at the same time.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from s3transfer.exceptions import RetriesExceededError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from manifests.errors import ArchivedError, StorageError, redact
from manifests.storage import traffic
from manifests.storage.s3.client import Connection, connect, renew

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_WAIT_S = 20.0

#: A request that waits for longer than the first logs a warning, with at least the second between
#: two warnings of a process.
_WARN_AFTER_S = 10.0
_WARNING_INTERVAL_S = 30.0

#: Throttling, and failures in transit, which the server reports with a status of 400 or 409.
_TRANSIENT = frozenset(
    {
        "SlowDown",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestTimeout",
        "RequestTimeoutException",
        "IncompleteBody",
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)

#: Errors about the credentials, which affect every request of this process.
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "TokenRefreshRequired",
        "InvalidToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "InvalidSecurity",
        "AccountProblem",
        "NotSignedUp",
    }
)

#: Errors for an object in S3 Glacier, or in an archive tier of Intelligent-Tiering (on a copy).
_ARCHIVED = frozenset({"InvalidObjectState", "ObjectNotInActiveTierError"})

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
    boto.ProfileNotFound,
)

#: Includes connections refused or cut off, names not resolved, and timeouts.
_BROKEN = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
)

_FAILURES = (boto.BotoCoreError, boto.ClientError, Boto3Error, RetriesExceededError)


def request(uri: str, action: Callable[[S3Client], T]) -> T:
    """Run an action with the client, and retry it while that may help.

    Args:
        uri: the object or bucket, ``s3://bucket…``; named in errors.
        action: one request or several, which can be repeated safely.

    Raises:
        OSError: the object is the cause: ``FileNotFoundError``, ``PermissionError``,
            ``ArchivedError``, or another if the storage responds but refuses.
        StorageError: the storage is: ``storage.unreachable``, ``storage.credentials`` or
            ``storage.bad_setting``.
    """
    connection = connect()
    try:
        try:
            return _retry(uri, action, connection)
        except _FAILURES as error:
            if not _is_about_credentials(error):
                raise
            connection = renew(connection)  # the credentials on disk may be newer
            return _retry(uri, action, connection)
    except _FAILURES as error:
        raise _translate(_cause(error), uri, connection) from error


def _retry(uri: str, action: Callable[[S3Client], T], connection: Connection) -> T:
    retrying = Retrying(
        retry=retry_if_exception(_is_transient),
        wait=wait_random_exponential(max=_MAX_WAIT_S),
        stop=stop_after_delay(connection.settings.retry_s),
        before_sleep=lambda state: _warn(uri, state),
        reraise=True,
    )
    return retrying(action, connection.client)


def code_and_status(error: BaseException) -> tuple[str, int]:
    """S3's error code and the HTTP status; empty and 0 if there was no response."""
    if not isinstance(error, boto.ClientError):
        return "", 0
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response.get("Error", {}).get("Code", ""), status


def _cause(error: BaseException) -> BaseException:
    """The error that made a multipart transfer give up, or the error itself."""
    return error.last_exception if isinstance(error, RetriesExceededError) else error


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    error = _cause(error)
    code, status = code_and_status(error)
    code = code.removeprefix("KMS.")
    if code in _TRANSIENT or code.startswith("Throttling"):
        return True
    if status in (501, 507):  # not implemented; insufficient storage
        return False
    if isinstance(error, boto.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    return status in (408, 429) or status >= 500 or isinstance(error, _BROKEN)


def _is_about_credentials(error: BaseException) -> bool:
    return isinstance(error, _NO_CREDENTIALS) or code_and_status(error)[0] in _CREDENTIALS


def _translate(error: BaseException, uri: str, connection: Connection) -> Exception:
    """Translate into an OSError about the object, or a StorageError."""
    code, status = code_and_status(error)
    text = str(error).rstrip(".")
    if _is_about_credentials(error):
        return StorageError("storage.credentials", f"{uri}: {text}.")
    if isinstance(error, boto.SSLError) or (
        _is_transient(error) and not _responds(uri, connection)
    ):
        return StorageError("storage.unreachable", f"{uri}: {text}.")
    text += " (it changed while it was being read)" if code == "PreconditionFailed" else ""
    if code in _ARCHIVED:
        return ArchivedError(errno.EACCES, text, uri)
    number = {404: errno.ENOENT, 403: errno.EACCES, 401: errno.EACCES}.get(status, errno.EIO)
    # A KMS key that is disabled, deleted or forbidden: all have status 400.
    return OSError(errno.EACCES if code.startswith("KMS.") else number, text, uri)


def _responds(uri: str, connection: Connection) -> bool:
    """Whether the storage responds at all, even if only with 403."""
    bucket = uri.partition("://")[2].partition("/")[0]
    try:
        connection.probe.head_bucket(Bucket=bucket)
    except _FAILURES as error:
        return 0 < code_and_status(error)[1] < 500 and not _is_transient(error)
    return True


_warned_at = -_WARNING_INTERVAL_S


def _warn(uri: str, state: RetryCallState) -> None:
    """Log why a request takes long, rate-limited for the whole process."""
    traffic.count("retries")
    global _warned_at  # noqa: PLW0603 - one per process, like its stderr
    now = time.monotonic()
    waited_s = state.seconds_since_start or 0.0
    if waited_s < _WARN_AFTER_S or now - _warned_at < _WARNING_INTERVAL_S or state.outcome is None:
        return
    _warned_at = now
    problem = redact(f"{uri}: {state.outcome.exception()}")
    _log.warning("S3 requests have been failing for %.0f s: %s", waited_s, problem)
