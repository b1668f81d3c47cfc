"""Settings for S3 for which boto3 has no variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from manifests.errors import StorageError

_PREFIX = "CATALOG_CLEANUP_"


class Settings(BaseModel):
    """Settings in addition to boto3's own (profile, region, endpoint, CA bundle and so on).

    Customer-provided keys (SSE-C) are not supported: objects stored with a key can only be read
    with it, and others only without, so inputs and outputs would need separate settings.

    Attributes:
        s3_request_payer: whether this account pays for requests to other owners' buckets.
        s3_sse: server-side encryption of written objects; empty: the bucket's default.
        s3_sse_kms_key_id: the key for ``aws:kms``; empty: the account's default key.
        retry_s: max seconds for which a request is retried, beyond boto3's own retries.
    """

    model_config = ConfigDict(frozen=True)

    s3_request_payer: Literal["", "requester"] = ""
    s3_sse: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    s3_sse_kms_key_id: str = ""
    retry_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0

    @field_validator("s3_sse_kms_key_id")
    @classmethod
    def _refuse_unused_key(cls, key: str, info: ValidationInfo) -> str:
        if not info.data.get("s3_sse", "aws:kms").startswith("aws:kms"):
            raise ValueError(f"it needs {_PREFIX}S3_SSE=aws:kms")
        return key

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables that are called as the fields, in capitals, after a prefix.

        Raises:
            StorageError: ``storage.bad_setting``.
        """
        variables = {name: environment.get(f"{_PREFIX}{name.upper()}") for name in cls.model_fields}
        try:
            return cls.model_validate({name: text for name, text in variables.items() if text})
        except ValidationError as error:
            first = error.errors()[0]
            variable = f"{_PREFIX}{first['loc'][0]}".upper()
            raise StorageError(
                "storage.bad_setting", f"{variable}={first['input']}: {first['msg']}."
            ) from None

    def add_to(self, parameters: dict[str, Any], accepted: Mapping[str, Any]) -> None:
        """Add these settings to a request's parameters, as far as it accepts them."""
        ours = {
            "RequestPayer": self.s3_request_payer,
            "ServerSideEncryption": self.s3_sse,
            "SSEKMSKeyId": self.s3_sse_kms_key_id,
        }
        for name, value in ours.items():
            if value and name in accepted:
                parameters.setdefault(name, value)
