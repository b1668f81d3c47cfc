"""Which failures of S3 are retried, and whose fault it is when no retry helps.

boto3 tries a request a few times by itself (``AWS_MAX_ATTEMPTS``, ``AWS_RETRY_MODE``). Here it is
tried again for minutes, with full jitter (a wait drawn between 0 and a limit that doubles), as
suits thousands of clients that meet the same throttling or the same restart.
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

#: Who waits for longer than this says so, and a process no more often than that.
_WARN_AFTER_S = 10.0
_WARNING_INTERVAL_S = 30.0

_THROTTLED = frozenset(
    {
        "SlowDown",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)

#: Failures in transit, which the server reports with a status of 400 or 409.
_IN_TRANSIT = frozenset(
    {
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

#: The same for every request of this process.
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

#: Of an object in S3 Glacier, or in an archive tier of Intelligent-Tiering; the latter by a copy.
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
    """Do something with the client, again as long as that may help.

    Args:
        uri: what it is about, ``s3://bucket…``; named in errors.
        action: one request or several, which may be repeated.

    Raises:
        OSError: it is the object's fault: ``FileNotFoundError``, ``PermissionError``,
            ``ArchivedError``, or another where the storage answers but will not do it.
        StorageError: it is not: ``storage.unreachable``, ``storage.credentials`` or
            ``storage.bad_setting``.
    """
    connection = connect()
    try:
        try:
            return _retry(uri, action, connection)
        except _FAILURES as error:
            if not _is_about_credentials(error):
                raise
            connection = renew(connection)  # they may have been renewed on disk
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
    """S3's code and the HTTP status; empty and 0 if there was no answer."""
    if not isinstance(error, boto.ClientError):
        return "", 0
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response.get("Error", {}).get("Code", ""), status


def _cause(error: BaseException) -> BaseException:
    """What a transfer in parts gave up for, or the error itself."""
    return error.last_exception if isinstance(error, RetriesExceededError) else error


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    error = _cause(error)
    code, status = code_and_status(error)
    code = code.removeprefix("KMS.")
    if code in _THROTTLED | _IN_TRANSIT or code.startswith("Throttling"):
        return True
    if status in (501, 507):  # not implemented; full, as some servers say
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
    text += " (it was changed while it was read)" if code == "PreconditionFailed" else ""
    if code in _ARCHIVED:
        return ArchivedError(errno.EACCES, text, uri)
    number = {404: errno.ENOENT, 403: errno.EACCES, 401: errno.EACCES}.get(status, errno.EIO)
    # A key that is disabled, gone or not for us: all come with status 400.
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
    """Say why nothing seems to happen, once in a while and not for every thread."""
    traffic.count(retries=1)
    global _warned_at  # noqa: PLW0603 - the process's, as its stderr is
    now = time.monotonic()
    waited_s = state.seconds_since_start or 0.0
    if waited_s < _WARN_AFTER_S or now - _warned_at < _WARNING_INTERVAL_S or state.outcome is None:
        return
    _warned_at = now
    problem = redact(f"{uri}: {state.outcome.exception()}")
    _log.warning("S3 has been tried for %.0f s, and still: %s", waited_s, problem)
