"""Looks up the versions of many objects, by listing them or one by one.

Every function raises the errors of :func:`manifests.storage.s3.retries.request`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from manifests.storage.s3.client import CONNECTIONS
from manifests.storage.s3.objects import S3Path, pages

#: A page of a listing takes as long as this number of HEAD requests.
_HEADS_PER_PAGE = 50
#: Max pages of a listing for a few objects; more objects allow more.
_MIN_PAGE_LIMIT = 2


def versions(uris: Iterable[str]) -> dict[str, str]:
    """Versions of many objects; missing ones are left out, and version ids may be.

    They are listed if the keys are close to each other, else looked up one by one.
    """
    known: dict[str, str] = {}
    buckets = defaultdict[str, dict[str, str]](dict)
    for uri in uris:
        path = S3Path.of(uri)
        buckets[path.bucket][path.key] = uri
    for bucket, uri_of in buckets.items():
        listed = None
        # Read permission does not imply list permission; and the bucket may be gone.
        with suppress(OSError):
            listed = _list_tags(bucket, uri_of, _MIN_PAGE_LIMIT + len(uri_of) // _HEADS_PER_PAGE)
        known |= _heads(uri_of.values()) if listed is None else listed
    return known


def _list_tags(bucket: str, uri_of: Mapping[str, str], max_pages: int) -> dict[str, str] | None:
    """Look up entity tags, without quotes, by listing the range of the keys.

    Args:
        bucket: of the objects.
        uri_of: key -> URI; missing objects are left out of the result.
        max_pages: max number of pages; if the range has more, the result is None.
    """
    keys = sorted(uri_of, key=str.encode)
    first, last = keys[0], keys[-1].encode()
    # A listing starts after a given name, so take one that sorts right before the first key.
    which = {"Bucket": bucket} | ({"StartAfter": first[:-1]} if first[:-1] else {})
    tags: dict[str, str] = {}
    for page in islice(pages(which), max_pages):
        listed = page.get("Contents", [])
        for each in listed:
            if each["Key"] in uri_of:
                tags[uri_of[each["Key"]]] = each["ETag"].strip('"')
        if not page.get("IsTruncated") or (listed and listed[-1]["Key"].encode() >= last):
            return tags
    return None


def _heads(uris: Collection[str]) -> dict[str, str]:
    def version(uri: str) -> tuple[str, str] | None:
        with suppress(OSError):
            return uri, S3Path.of(uri).head().version
        return None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(filter(None, pool.map(version, uris)))
