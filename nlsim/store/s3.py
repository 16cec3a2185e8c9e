"""Objects in an S3 bucket, Amazon's or any compatible store's."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError

from nlsim.errors import TransientError, UsageError
from nlsim.store import directory, s3_errors
from nlsim.store.cache import cached, file_sha256
from nlsim.store.objects import (
    REREADS,
    BufferReader,
    DamagedObjectError,
    Data,
    MissingObjectError,
    Moved,
    ObjectInfo,
    buffers_of,
    checked_key,
    checked_prefix,
)
from nlsim.store.s3_listing import read_entries

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        DeleteObjectsOutputTypeDef,
        ListMultipartUploadsOutputTypeDef,
        MultipartUploadTypeDef,
    )

T = TypeVar("T")

PART = 16 << 20
"""Objects and ranges larger than this are moved in parts of this size, several at once."""
PARALLEL = 8
ATTEMPTS = 8
"""Requests whose failure botocore does not repeat itself are made this many times."""
PAUSE_SECONDS = 0.1
"""Before the second attempt, on average; doubles with each further one."""
PER_DELETION = 1000


class S3Objects:
    """Objects in `bucket` whose keys start with `prefix`.

    botocore repeats requests that fail on the way or are throttled (standard mode, AWS_MAX_ATTEMPTS); what it does not
    repeat (a body that breaks off, a wrong checksum, a conflict of conditional puts) is repeated here.
    """

    is_local = False

    def __init__(self, bucket: str, prefix: str = "", moved: Moved | None = None) -> None:
        if not bucket:
            raise UsageError("the store URL names no bucket", "give s3://bucket/prefix")
        self.bucket = bucket
        self.prefix = f"{checked_key(prefix)}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._moved = moved
        self._lock = threading.Lock()
        self._client: tuple[int, S3Client] | None = None
        self._bucket_seen = False

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Objects, (self.bucket, self.prefix.rstrip("/"), self._moved)

    def put(self, key: str, data: Data) -> None:
        size = data.stat().st_size if isinstance(data, Path) else sum(map(len, buffers_of(data)))
        place = self._place(key)
        if size <= PART:
            body = data.read_bytes() if isinstance(data, Path) else b"".join(buffers_of(data))
            self._call(lambda s3: s3.put_object(**place, Body=body))
            return

        def upload(s3: S3Client) -> bool:
            with (
                data.open("rb") if isinstance(data, Path) else io.BufferedReader(BufferReader(buffers_of(data))) as file
            ):
                s3.upload_fileobj(file, **place, Callback=self._moved, Config=_transfer())
            return True

        self._call(upload)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        place = self._place(key)
        if os.environ.get("NLSIM_S3_CONDITIONAL_PUT") == "0":
            if self.info(key) is None:
                self.put(key, data)
            return self.get(key) == data
        for _ in range(ATTEMPTS):
            if self._call_unless(s3_errors.EXISTS, lambda s3: s3.put_object(**place, Body=data, IfNoneMatch="*")):
                return True
            try:
                # A request whose answer got lost is repeated and then finds its own object.
                return self.get(key) == data
            except MissingObjectError:
                continue  # removed since
        raise TransientError(f"{self.url}/{key} comes and goes", "run the same command again")

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        place = self._place(key)
        if length is not None and length > PART:
            starts = range(start, start + length, PART)
            with ThreadPoolExecutor(PARALLEL) as pool:
                pieces = pool.map(lambda at: self.get(key, at, min(PART, start + length - at)), starts)
                return b"".join(pieces)
        if length == 0:
            return b""
        if start or length is not None:
            place["Range"] = f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"

        def fetch(s3: S3Client) -> bytes:
            try:
                return s3.get_object(**place)["Body"].read()
            except ClientError as error:
                if s3_errors.code_of(error) in s3_errors.PAST_END:
                    return b""
                raise

        read = self._call_unless(s3_errors.MISSING, fetch, key)
        if read is None:
            raise self._missing(key)
        if self._moved and len(read) >= PART:
            self._moved(len(read))
        return read

    def info(self, key: str) -> ObjectInfo | None:
        place = self._place(key)
        head = self._call_unless(s3_errors.MISSING, lambda s3: s3.head_object(**place))
        if head is not None:
            return ObjectInfo(key, head["ContentLength"], head["LastModified"].timestamp())
        self._missing(key)
        return None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        place: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + checked_prefix(prefix)}
        while True:
            page = self._call(lambda s3: s3.list_objects_v2(**place))
            if "IsTruncated" not in page:  # a page that says so little would pass for an empty store
                raise s3_errors.not_s3(self.url)
            self._bucket_seen = True
            for found in page.get("Contents", []):
                key = found["Key"][len(self.prefix) :]
                if key and not key.endswith("/"):  # other programs mark folders by empty objects
                    yield ObjectInfo(key, found["Size"], found["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            place["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := [self._place(key)["Key"] for key in islice(remaining, PER_DELETION)]:
            answer = self._call(partial(_delete, self.bucket, batch))
            for failed in answer.get("Errors", []):
                raise s3_errors.response_error(str(failed.get("Code", "")), 0, self.url)

    def local(self, key: str, sha256: str = "") -> Path:
        place = self._place(key)

        def download(path: Path) -> None:
            def fetch(s3: S3Client) -> bool:
                s3.download_file(**place, Filename=str(path), Callback=self._moved, Config=_transfer())
                return True

            for last in (False, True):  # what arrives wrong once may have been damaged on the way
                if not self._call_unless(s3_errors.MISSING, fetch, key):
                    raise self._missing(key)
                if not sha256 or file_sha256(path) == sha256:
                    return
                if last:
                    raise DamagedObjectError(f"{self.url}/{key}", "its SHA-256 is not the one that was committed")

        name = sha256
        if not name:
            head = self._call_unless(s3_errors.MISSING, lambda s3: s3.head_object(**place))
            if head is None:
                raise self._missing(key)
            name = hashlib.sha256(f"{self.url}/{key} {head['ETag']} {head['LastModified']}".encode()).hexdigest()
        try:
            return cached(name, download, sha256)
        except OSError as error:
            raise directory.clear_error(error, Path(error.filename or name)) from error

    def now(self) -> float:
        answer = self._call(lambda s3: s3.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1))
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).timestamp() if date else time.time()

    def unfinished(self, before: float, remove: bool = False) -> Iterator[ObjectInfo]:
        place: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix}

        def read_page(s3: S3Client) -> ListMultipartUploadsOutputTypeDef:
            return s3.list_multipart_uploads(**place)

        while True:
            page = self._call_unless({"NotImplemented"}, read_page)
            for upload in page.get("Uploads", []) if page else ():
                begun = upload["Initiated"].timestamp()
                if begun < before:
                    if remove:
                        self._call_unless({"NoSuchUpload", "404"}, partial(_abort, self.bucket, upload))
                    yield ObjectInfo(upload["Key"][len(self.prefix) :], 0, begun)
            if not page or not page.get("IsTruncated"):
                return
            place["KeyMarker"], place["UploadIdMarker"] = page["NextKeyMarker"], page["NextUploadIdMarker"]

    def _missing(self, key: str) -> MissingObjectError:
        """The error that there is no object. Raises UsageError if there is no bucket: HEAD does not tell which."""
        if not self._bucket_seen:
            self._call(lambda s3: s3.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1))
            self._bucket_seen = True
        return MissingObjectError(f"{self.url}/{key} does not exist")

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.prefix + checked_key(key)}

    def _s3(self) -> S3Client:
        """This process's client. A forked process makes its own: connections cannot be shared."""
        with self._lock:
            if self._client is None or self._client[0] != os.getpid():
                self._client = os.getpid(), make_client()
            return self._client[1]

    def _call(self, request: Callable[[S3Client], T]) -> T:
        """What the request returns. Raises what its failure means to the user."""
        answer = self._call_unless((), request)
        assert answer is not None  # noqa: S101
        return answer

    def _call_unless(self, codes: Collection[str], request: Callable[[S3Client], T], key: str = "") -> T | None:
        """What the request returns; None when it fails with one of the codes. `key`: of the object that it reads."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return request(self._s3())
            except FAILURES as failure:
                error = s3_errors.cause(failure)
                if s3_errors.code_of(error) in codes:
                    return None
                if key and attempt >= REREADS and isinstance(error, FlexibleChecksumError):
                    raise DamagedObjectError(f"{self.url}/{key}", "the store's own checksum does not match") from error
                if attempt == ATTEMPTS or not s3_errors.worth_repeating(error):
                    raise s3_errors.clear_error(error, self.url) from error
                time.sleep(PAUSE_SECONDS * 2**attempt * random.random())  # noqa: S311
        return None


FAILURES = (
    ClientError,
    BotoCoreError,
    Boto3Error,
    ResponseParserError,
    RetriesExceededError,
    *s3_errors.TRANSPORT,
)


def make_client() -> S3Client:
    """A client configured from the environment. Raises UsageError when its endpoint is not a URL."""
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=4 * PARALLEL,
        retries={"mode": "standard", "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS)},
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        client = boto3.session.Session(region_name=region).client("s3", config=config)
    except ValueError as error:
        named = s3_errors.endpoint()
        raise UsageError(f"AWS_ENDPOINT_URL={named!r} is not a URL", "give http://host:port or https://host") from error
    client.meta.events.register_first("before-parse.s3.ListObjectsV2", read_entries)
    return client


def _transfer() -> TransferConfig:
    return TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=PARALLEL, num_download_attempts=ATTEMPTS
    )


def _delete(bucket: str, keys: list[str], s3: S3Client) -> DeleteObjectsOutputTypeDef:
    return s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})


def _abort(bucket: str, upload: MultipartUploadTypeDef, s3: S3Client) -> object:
    return s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
