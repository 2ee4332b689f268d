"""Files on S3 and on what speaks its protocol, over the client that Beam's options describe (boto3).

Beam's own filesystem makes a client for each call (0.1 s), checks neither that an object stays the same nor that it
comes whole, waits minutes for credentials that are not there, and cannot write an empty file.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import S3Options

from pipelines.errors import UsageError, one_line
from pipelines.remote import ChangedError, Stat, TransientError, check_same, retrying

_PIECE = 1 << 18  # bytes read from a connection at once
_SPOOL = 32 << 20  # bytes of a file being written that are held in memory; more go to a temporary file
_WILD = "*?["
_DELETED_AT_ONCE = 1000  # the most that S3 takes
_TRANSIENT = {"429", "500", "502", "503", "504", "RequestTimeout", "SlowDown", "Throttling", "InternalError"}
_OPTIONS = (
    "s3_access_key_id",
    "s3_api_version",
    "s3_disable_ssl",
    "s3_endpoint_url",
    "s3_region_name",
    "s3_secret_access_key",
    "s3_session_token",
    "s3_verify",
)


class _Key(NamedTuple):
    bucket: str
    name: str


class S3Transfer:
    """One object."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._key = _key(path)
        self._client = _client(path)

    def stat(self) -> Stat:
        """Size, time of change and ETag."""
        with _telling(self.path):
            answer = self._client.head_object(Bucket=self._key.bucket, Key=self._key.name)
        return Stat(answer["ContentLength"], answer["LastModified"].timestamp(), answer["ETag"])

    def fetch(self, begin: int, end: int, stat: Stat, into: bytearray) -> bool:
        """See :class:`pipelines.remote.Transfer`."""
        wanted = {"Bucket": self._key.bucket, "Key": self._key.name, "Range": f"bytes={begin}-{end - 1}"}
        with _telling(self.path):
            answer = self._client.get_object(**wanted, IfMatch=stat.etag)
            size = answer.get("ContentRange", "").rpartition("/")[2]
            now = Stat(int(size) if size.isdigit() else None, answer["LastModified"].timestamp(), answer["ETag"])
            check_same(self.path, stat, now)
            with contextlib.closing(answer["Body"]) as body:
                while len(piece := body.read(_PIECE)):
                    into += piece
        return False

    def close(self) -> None:
        """Nothing to do: connections belong to the client."""


def listing(pattern: str, matcher: Any) -> list[FileMetadata]:
    """Objects whose path the pattern matches; ``matcher`` is the Beam filesystem that knows how globs are read."""
    bucket, prefix = pattern.removeprefix("s3://").partition("/")[::2]
    fixed = prefix[: min((prefix.find(c) for c in _WILD if c in prefix), default=len(prefix))]
    client = _client(pattern)

    def ask() -> list[FileMetadata]:
        with _telling(pattern):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=fixed)
            return [
                FileMetadata(f"s3://{bucket}/{item['Key']}", item["Size"], item["LastModified"].timestamp())
                for page in pages
                for item in page.get("Contents", ())
            ]

    return list(matcher.match_files(retrying(pattern, ask), pattern))


def delete(paths: list[str]) -> None:
    """Deletes objects; absent ones are passed over."""
    by_bucket: dict[str, list[str]] = {}
    for path in paths:
        by_bucket.setdefault(_key(path).bucket, []).append(_key(path).name)
    for bucket, names in by_bucket.items():
        for at in range(0, len(names), _DELETED_AT_ONCE):
            _delete_some(bucket, names[at : at + _DELETED_AT_ONCE])


def _delete_some(bucket: str, names: list[str]) -> None:
    path = f"s3://{bucket}/{names[0]}"
    client = _client(path)

    def ask() -> list[dict[str, str]]:
        with _telling(path):
            wanted = {"Objects": [{"Key": name} for name in names], "Quiet": True}
            return list(client.delete_objects(Bucket=bucket, Delete=wanted).get("Errors", ()))

    for error in retrying(path, ask):
        raise OSError(f"s3://{bucket}/{error.get('Key')}: cannot be deleted: {error.get('Message')}")


@contextlib.contextmanager
def open_write(path: str) -> Iterator[BinaryIO]:
    """Opens an object that appears, whole, when the block ends without an exception."""
    key, client = _key(path), _client(path)
    with tempfile.SpooledTemporaryFile(_SPOOL) as spool:
        yield cast(BinaryIO, spool)

        def put() -> None:
            spool.seek(0)
            with _telling(path):
                client.upload_fileobj(_Kept(spool), key.bucket, key.name)

        retrying(path, put)


class _Kept:
    """A file that boto3 may read and not close, as it does with all that it has sent."""

    def __init__(self, file: Any) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def close(self) -> None:
        """Not yet: it may have to be sent again."""


def _key(path: str) -> _Key:
    bucket, slash, name = path.removeprefix("s3://").partition("/")
    if not bucket or not slash or not name:
        raise OSError(f"{path}: write it as s3://BUCKET/KEY")
    return _Key(bucket, name)


def _client(path: str) -> Any:
    try:
        import boto3  # noqa: F401
        import botocore.exceptions as faults
    except ImportError:
        raise UsageError(f"{path}: S3 needs its client: pip install 'human-reserve[s3]'") from None
    # The options that a pipeline was made with, on this machine or on a worker; Beam has no public way to them.
    options = FileSystems.get_filesystem("s3://")._options.view_as(S3Options)
    try:
        return _client_for(tuple((name, getattr(options, name)) for name in _OPTIONS))
    except (faults.BotoCoreError, ValueError) as error:
        raise UsageError(f"{path}: {one_line(error)}") from None


@cache
def _client_for(options: tuple[tuple[str, Any], ...]) -> Any:
    from apache_beam.io.aws.s3io import S3IO

    return S3IO(options=dict(options)).client.client


@contextlib.contextmanager
def _telling(path: str) -> Iterator[None]:
    """Makes of boto3's errors what the reader knows: TransientError, or an OSError that says what to mend."""
    import botocore.exceptions as faults

    try:
        yield
    except faults.ClientError as error:
        _refuse(path, error.response, error)
    except (faults.NoCredentialsError, faults.PartialCredentialsError) as error:
        raise PermissionError(
            f"{path}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role"
        ) from None
    except (faults.HTTPClientError, faults.ResponseStreamingError, faults.IncompleteReadError) as error:
        raise TransientError(one_line(error)) from None
    except faults.BotoCoreError as error:
        raise OSError(f"{path}: {one_line(error)}") from None


def _refuse(path: str, answer: dict[str, Any], error: Exception) -> NoReturn:
    status = str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    code = str(answer.get("Error", {}).get("Code", ""))
    text = one_line(error)
    if status in _TRANSIENT or code in _TRANSIENT:
        raise TransientError(text) from None
    if code in {"NoSuchBucket", "NoSuchKey", "404"}:
        what = "bucket" if code == "NoSuchBucket" else "object"
        raise FileNotFoundError(f"{path}: there is no such {what}") from None
    if status in {"401", "403"}:
        raise PermissionError(f"{path}: access is refused ({text}); check the credentials and the bucket's policy")
    if status == "412":
        raise ChangedError(path, "its ETag is another")
    if status == "416":
        raise ChangedError(path, "it is shorter")
    raise OSError(f"{path}: {text}") from None
