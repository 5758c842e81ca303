"""What S3 and the way to it can answer, in our words: is it worth another try, and what is to be done about it.

Nothing that a server or a library says is quoted: it could hold a credential. Codes and types are.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as botocore

FOREIGN: Final[tuple[type[Exception], ...]] = (
    botocore.ClientError,
    botocore.BotoCoreError,
    aiohttp.ClientError,
    OSError,
    EOFError,
)
"""All that a request may raise. OSError holds TimeoutError."""


class Kind(Enum):
    PASSING = auto()
    """Another try may succeed. Whether this one did is not known."""
    TAKEN = auto()
    """412: something is under that key."""
    CONFLICT = auto()
    """409: somebody else writes the same key in this moment."""
    ABSENT = auto()
    UPLOAD_GONE = auto()
    PAST_THE_END = auto()
    FINAL = auto()
    """It will not get better by itself."""


_BY_CODE: Final = {
    **dict.fromkeys(("NoSuchKey", "NotFound", "404"), Kind.ABSENT),
    **dict.fromkeys(("PreconditionFailed", "412"), Kind.TAKEN),
    **dict.fromkeys(("ConditionalRequestConflict", "OperationAborted", "409"), Kind.CONFLICT),
    **dict.fromkeys(("InvalidRange", "416"), Kind.PAST_THE_END),
    **dict.fromkeys(
        (
            "BadDigest",
            "IncompleteBody",
            "InternalError",
            "RequestTimeout",
            "RequestTimeoutException",
            "SlowDown",
            "Throttling",
            "ThrottlingException",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ),
        Kind.PASSING,
    ),
    "NoSuchUpload": Kind.UPLOAD_GONE,
    "NoSuchBucket": Kind.FINAL,
    "NotImplemented": Kind.FINAL,
}

_NOT_THE_WAY: Final = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.TokenRetrievalError,
    botocore.ProfileNotFound,
    botocore.ConfigParseError,
    botocore.ParamValidationError,
    botocore.InvalidEndpointConfigurationError,
    botocore.UnsupportedSignatureVersionError,
)

_PERMISSIONS: Final = {
    "write": "s3:PutObject and s3:GetObject",
    "read": "s3:GetObject (and s3:ListBucket, without which what is missing looks forbidden)",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
    "clear": "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload",
}

_CREDENTIALS: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile, and that they are this endpoint's"
)
_NO_CREDENTIALS: Final = (
    "no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
)
_OTHER_REGION: Final = "the bucket is in another region; name it with ?region=... in storage.url or AWS_REGION"
_ADVICE: Final = {
    "NoSuchBucket": "create the bucket, or correct it in storage.url",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), "get new credentials: these are over"),
    "RequestTimeTooSkewed": "set this machine's clock",
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307"), _OTHER_REGION),
    "NotImplemented": "this server lacks something that Relight needs; try ?request_checksum_calculation=when_required "
    "in storage.url",
    "EntityTooLarge": "the server takes no object of this size; use more ranks or a server that does",
    "QuotaExceeded": "free some space or raise the quota",
    "XMinioStorageFull": "free some space on the server",
}


def kind_of(error: Exception) -> Kind:
    if not isinstance(error, botocore.ClientError):
        return Kind.FINAL if isinstance(error, _NOT_THE_WAY) else Kind.PASSING
    code, status = code_of(error), _status(error)
    if code in _BY_CODE:
        return _BY_CODE[code]
    by_status = _BY_CODE.get(str(status), Kind.FINAL)
    return Kind.PASSING if status >= 500 or status == 429 else by_status


def is_passing(error: Exception) -> bool:
    return kind_of(error) is Kind.PASSING


def explain(error: Exception, act: str, bucket: str, endpoint_url: str) -> str:
    """Why, and what to do next. `act` is write, read, list, delete or clear."""
    if isinstance(error, botocore.ClientError):
        return _answered(error, act, bucket)
    if isinstance(error, _NOT_THE_WAY):
        return f"{_NO_CREDENTIALS} ({type(error).__name__})"
    server = without_user(endpoint_url)
    if isinstance(error, botocore.FlexibleChecksumError):
        return f"the checksums that {server} sends do not match its bytes; look for a broken proxy or server"
    advice = "check the network, and the endpoint (?endpoint_url=... in storage.url, or AWS_ENDPOINT_URL)"
    return f"{server} did not answer ({type(error).__name__}); {advice}"


def _answered(error: Any, act: str, bucket: str) -> str:
    code, status = code_of(error), _status(error)
    said = f"the store answered {code}" + ("" if code == str(status) else f" ({status})")
    if code in _ADVICE:
        return f"{said}; {_ADVICE[code]}"
    if status == 403:
        return f"{said}; allow {_PERMISSIONS[act]} on bucket {bucket}"
    if kind_of(error) is Kind.PASSING:
        return f"{said} each time; it is overloaded or in trouble: try again later"
    return f"{said}; see the server's log, or choose another storage.url"


def without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def code_of(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
