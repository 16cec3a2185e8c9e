"""What errors of boto3 mean to the user: one line and an exit code each.

Messages of the store are not repeated: they may quote what should stay secret.
"""

from __future__ import annotations

import os

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError
from urllib3.exceptions import HTTPError

from nlsim.errors import NlsimError, TransientError, UsageError

EXISTS = {"PreconditionFailed", "412"}
CONFLICT = {"ConditionalRequestConflict", "409"}
MISSING = {"NoSuchKey", "404", "NotFound"}
PAST_END = {"InvalidRange", "416"}

_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed", "405"}
_BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "InvalidSecurity"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_GARBLED = {"BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
_TRANSIENT = {"SlowDown", "Throttling", "RequestTimeout", "InternalError", "ServiceUnavailable", "RequestLimitExceeded"}

TRANSPORT = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.ReadTimeoutError,
    boto.ConnectionClosedError,
    boto.FlexibleChecksumError,
    HTTPError,
    ConnectionError,
    TimeoutError,
)
"""What breaks while a body is being read, where botocore itself does not try again."""


def cause(error: Exception) -> Exception:
    """The error that boto3's transfers have wrapped, else the error itself."""
    inner = error.last_exception if isinstance(error, RetriesExceededError) else error.__cause__ or error.__context__
    wrapped = isinstance(error, (Boto3Error, RetriesExceededError)) and isinstance(inner, Exception)
    return inner if wrapped and isinstance(inner, Exception) else error


def code_of(error: Exception) -> str:
    """S3's code for an error ("NoSuchKey"; the HTTP status as text where a response had no body), else ""."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status behind an error, 0 if it is not a response."""
    if not isinstance(error, boto.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def worth_repeating(error: Exception) -> bool:
    """Whether the same request may succeed though botocore has given it up, or never repeats it."""
    return isinstance(error, (*TRANSPORT, ResponseParserError)) or code_of(error) in CONFLICT | _GARBLED


def endpoint() -> str:
    """The endpoint that the environment names, "" for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def clear_error(error: Exception, url: str) -> NlsimError:
    """What an error of boto3 or of the connection means to the user of the store at `url`."""
    where = _where()
    if isinstance(error, boto.ClientError):
        return response_error(code_of(error), status_of(error), url)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)):
        return UsageError(
            f"{url}: no credentials for S3", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, boto.NoRegionError):
        return UsageError(f"{url}: no region", "set AWS_REGION")
    if isinstance(error, boto.ParamValidationError):
        return UsageError(f"{url} is not a valid S3 URL", "give s3://bucket/prefix")
    if isinstance(error, boto.SSLError):
        return UsageError(
            f"{url}: no secure connection to the store {where}", "check http:// or https:// and AWS_CA_BUNDLE"
        )
    if isinstance(error, boto.EndpointConnectionError):
        return TransientError(f"{url}: nothing answers {where}", "check AWS_ENDPOINT_URL and that the store is running")
    if isinstance(error, ResponseParserError):
        return not_s3(url)
    return TransientError(f"{url}: the connection failed ({type(error).__name__})", "run the same command again")


def not_s3(url: str) -> UsageError:
    """The error that something answers, but not an S3 store."""
    return UsageError(f"{url}: what answers {_where()} is not S3", "check AWS_ENDPOINT_URL")


def _where() -> str:
    return f"at {endpoint()}" if endpoint() else "at Amazon S3"


def response_error(code: str, status: int, url: str) -> NlsimError:
    """What an error response means to the user of the store at `url`."""
    where = _where()
    bucket = url.removeprefix("s3://").partition("/")[0]
    if code == "NoSuchBucket":
        return UsageError(
            f"{url}: there is no bucket {bucket} {where}", "create it, or check the URL and AWS_ENDPOINT_URL"
        )
    if code == "InvalidBucketName":
        return UsageError(f"{url}: {bucket!r} is not a bucket's name", "give s3://bucket/prefix")
    if code == "RequestTimeTooSkewed":
        return UsageError(f"{url}: this machine's clock differs from the store's", "set the clock")
    if code in _EXPIRED:
        return UsageError(f"{url}: the credentials have expired", "renew them and run the same command again")
    if code in _BAD_CREDENTIALS:
        return UsageError(
            f"{url}: the store {where} does not accept the credentials", "check AWS_ACCESS_KEY_ID and its secret"
        )
    if code in _REGION:
        return UsageError(f"{url}: the bucket is in another region", "set AWS_REGION to the bucket's")
    if code in _DENIED:
        return UsageError(
            f"{url}: access denied {where}",
            "the credentials need s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload",
        )
    if code in _FULL:
        return TransientError(f"{url}: the store {where} is full", "make room and run the same command again")
    if code == "NotImplemented" or status == 501:
        return UsageError(
            f"{url}: the store {where} lacks an operation that nlsim needs",
            "if `nlsim doctor` says it is the conditional put, set NLSIM_S3_CONDITIONAL_PUT=0",
        )
    if status >= 500 or status == 429 or code in _TRANSIENT | _GARBLED | CONFLICT:
        return TransientError(
            f"{url}: the store {where} keeps failing ({code or status})", "run the same command again later"
        )
    return UsageError(f"{url}: the store {where} refuses the request ({code or status})", "see `nlsim doctor`")
