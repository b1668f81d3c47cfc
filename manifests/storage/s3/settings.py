"""Settings for S3 for which boto3 has no variable."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from manifests.errors import StorageError

_PREFIX = "CATALOG_CLEANUP_"
_RETRY_S = 300.0
_SSE = ("", "AES256", "aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings in addition to boto3's own (profile, region, endpoint, CA bundle and so on).

    Customer-provided keys (SSE-C) are not supported: objects stored with a key can only be read
    with it, and others only without, so inputs and outputs would need separate settings.

    Attributes:
        requester_pays: whether this account pays for requests to other owners' buckets.
        sse: server-side encryption of written objects; empty: the bucket's default.
        sse_kms_key_id: the key for ``aws:kms``; empty: the account's default key.
        retry_s: max seconds for which a request is retried, beyond boto3's own retries.
    """

    requester_pays: bool = False
    sse: str = ""
    sse_kms_key_id: str = ""
    retry_s: float = _RETRY_S

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read ``CATALOG_CLEANUP_S3_REQUEST_PAYER``, ``…_S3_SSE``, ``…_S3_SSE_KMS_KEY_ID`` and
        ``CATALOG_CLEANUP_RETRY_S``.

        Raises:
            StorageError: ``storage.bad_setting``.
        """
        payer = environment.get(f"{_PREFIX}S3_REQUEST_PAYER", "")
        if payer not in ("", "requester"):
            raise _bad("S3_REQUEST_PAYER", payer, "`requester`, or not set")
        sse = environment.get(f"{_PREFIX}S3_SSE", "")
        if sse not in _SSE:
            raise _bad("S3_SSE", sse, "AES256, aws:kms, aws:kms:dsse, or not set")
        key = environment.get(f"{_PREFIX}S3_SSE_KMS_KEY_ID", "")
        if key and not sse.startswith("aws:kms"):
            raise _bad("S3_SSE_KMS_KEY_ID", key, f"set beside {_PREFIX}S3_SSE=aws:kms only")
        return cls(payer == "requester", sse, key, _seconds(environment))

    def add_to(self, parameters: dict[str, Any], accepted: Mapping[str, Any]) -> None:
        """Add these settings to a request's parameters, as far as it accepts them."""
        ours = {
            "RequestPayer": "requester" if self.requester_pays else "",
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key_id,
        }
        for name, value in ours.items():
            if value and name in accepted:
                parameters.setdefault(name, value)


def _seconds(environment: Mapping[str, str]) -> float:
    text = environment.get(f"{_PREFIX}RETRY_S", "")
    try:
        seconds = float(text or _RETRY_S)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _bad("RETRY_S", text, "seconds, 0 or more")
    return seconds


def _bad(name: str, value: str, wanted: str) -> StorageError:
    return StorageError("storage.bad_setting", f"{_PREFIX}{name}={value} must be {wanted}.")
