"""Files on Beam's other filesystems (gs, hdfs): which one, what it needs, and reading that notices an early end.

The streams that Beam gives take an answer without a byte for the end of the file, and open again what may have become
another file.
"""

from __future__ import annotations

import getpass
import os
from functools import cache
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import HadoopFileSystemOptions, PipelineOptions
from apache_beam.utils.retry import retry_on_server_errors_and_timeout_filter

from pipelines.errors import UsageError, one_line
from pipelines.remote import ChangedError, Stat, TransientError, check_same

PLAIN = CompressionTypes.UNCOMPRESSED

_PIECE = 1 << 20  # bytes in one read
_EXTRAS = {"gs": "gcs", "hdfs": "hdfs", "s3": "s3"}  # scheme: the extra of this package that it needs
_WEBHDFS_PORT = 9870  # the NameNode's own default

# Beam's filesystems ask for options, and there are none before the first pipeline is made.
if FileSystems._pipeline_options is None:
    FileSystems.set_options(PipelineOptions([]))


def scheme(path: str) -> str | None:
    """The scheme of a path (`s3`, `https` …); None: it lies on this machine's own filesystem."""
    found: str | None = FileSystems.get_scheme(path)
    return found


def system(path: str) -> FileSystem:
    """Beam's filesystem for a path. Raises UsageError where there is none, or where it lacks what it needs."""
    kind = scheme(path)
    try:
        if kind == "hdfs":
            return _hdfs(path)
        return FileSystems.get_filesystem(path)
    except (ValueError, ImportError, BeamIOError) as error:
        if kind in _EXTRAS:
            reason = f"{kind}:// needs what is not installed here: pip install 'human-reserve[{_EXTRAS[kind]}]'"
        else:
            reason = f"there is no filesystem for {kind}://; known: local paths, http, https, s3, gs, hdfs"
        raise UsageError(f"{path}: {reason}") from error


def _hdfs(path: str) -> FileSystem:
    """HDFS by the options of the pipeline, or by the environment where those name no host."""
    from apache_beam.io.hadoopfilesystem import HadoopFileSystem

    options = FileSystems._pipeline_options
    if options.view_as(HadoopFileSystemOptions).hdfs_host:
        return HadoopFileSystem(options)
    host = os.environ.get("HDFS_HOST")
    if not host:
        _installed(HadoopFileSystem)
        raise UsageError(f"{path}: set HDFS_HOST, HDFS_PORT and HDFS_USER, or runner_options.hdfs_host and so on")
    return HadoopFileSystem(
        {
            "hdfs_host": host,
            "hdfs_port": int(os.environ.get("HDFS_PORT", _WEBHDFS_PORT)),
            "hdfs_user": os.environ.get("HDFS_USER") or getpass.getuser(),
        }
    )


@cache
def _installed(hadoop: Any) -> None:
    """Raises ImportError where the client is missing, which is to be said before any option."""
    hadoop({"hdfs_host": "localhost", "hdfs_port": _WEBHDFS_PORT, "hdfs_user": "nobody"})


class BeamTransfer:
    """One file on a filesystem of Beam's."""

    def __init__(self, path: str, filesystem: FileSystem) -> None:
        self.path = path
        self._system = filesystem
        self._stream: Any = None

    def stat(self) -> Stat:
        """Size and time of change; Beam's metadata holds no more."""
        try:
            found = self._system.metadata(self.path)
        except Exception as error:
            if isinstance(error, BeamIOError) and not self._there():
                raise FileNotFoundError(f"{self.path}: there is no such file") from None
            raise _told(self.path, error) from None
        return Stat(found.size_in_bytes, found.last_updated_in_seconds, "")

    def fetch(self, begin: int, end: int, stat: Stat, into: bytearray) -> bool:
        """See :class:`pipelines.remote.Transfer`."""
        try:
            if self._stream is None:
                check_same(self.path, stat, self.stat())
                self._stream = self._system.open(self.path, compression_type=PLAIN)
            if self._stream.tell() != begin:
                self._stream.seek(begin)
            while begin < end and (piece := self._stream.read(min(_PIECE, end - begin))):
                into += piece
                begin += len(piece)
        except Exception as error:
            self.close()
            raise _told(self.path, error) from None
        if begin < end:
            self.close()  # the same stream would say the same again
        return False

    def close(self) -> None:
        """Closes the stream, if one is open."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _there(self) -> bool:
        try:
            return bool(self._system.exists(self.path))
        except Exception as error:
            raise _told(self.path, error) from None


def _told(path: str, error: Exception) -> Exception:
    """What an error of Beam's or of a client library's means for the reader."""
    causes = getattr(error, "exception_details", None) or {}
    cause = next((c for c in causes.values() if isinstance(c, Exception)), error)
    text = one_line(cause)
    if isinstance(cause, (FileNotFoundError, PermissionError)):
        return type(cause)(f"{path}: {text}")
    if isinstance(cause, (ChangedError, TransientError)):
        return cause
    if isinstance(cause, (ValueError, TypeError)) or not retry_on_server_errors_and_timeout_filter(cause):
        return OSError(f"{path}: {text}")
    return TransientError(text)
