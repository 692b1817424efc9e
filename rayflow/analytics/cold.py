"""Cold segments: old days of the log on another file system, such as an object store.

Any file system that Arrow knows will do (`s3://`, `gs://`, `file://` ...). A segment is copied, read back and compared
with its digest, and only then does the manifest say that it is there. Queries read such segments as an Arrow dataset:
what a question does not ask for is not fetched, and pages are checked as they come.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from rayflow.analytics.manifest import Gone, Stored
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.verification import Verifier

_CHUNK = 1 << 20


class ColdStorage:
    """One place for cold segments. Raises `ValueError` (which `ArrowInvalid` is) for a URI it does not know."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        # `file://` wants a folder that is there; all others make what they need.
        self._files, self._base = fs.FileSystem.from_uri(uri)

    def path(self, segment: Stored | Gone) -> str:
        return f"{self._base.rstrip('/')}/date={segment.day}/{segment.name}"

    def put(self, local: Path, segment: Stored, verifier: Verifier) -> str:
        """Copy a segment. Returns what is wrong with the copy, "" where it is whole. Raises `OSError`."""
        path = self.path(segment)
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        with local.open("rb") as source, self._files.open_output_stream(path) as sink:
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
        return self.damaged([segment], verifier).get(segment.name, "")

    def remove(self, segment_path: str) -> None:
        """Raises `OSError`."""
        self._files.delete_file(segment_path)

    def damaged(self, segments: Iterable[Stored], verifier: Verifier) -> dict[str, str]:
        """What is wrong with these segments, by name; whole ones are not in it."""
        by_path = {self.path(segment): segment for segment in segments}
        found: dict[str, str] = {}
        for info in self._files.get_file_info(list(by_path)):
            segment = by_path[info.path]
            if info.type != fs.FileType.File:
                found[segment.name] = "missing"
                continue
            stamp = (info.size, info.mtime_ns or 0)
            try:
                if problem := verifier.check(segment, info.size, stamp, partial(self._digest, info.path)):
                    found[segment.name] = problem
            except OSError as error:
                found[segment.name] = str(error)
        return found

    def dataset(self, segments: Iterable[Stored]) -> ds.Dataset:
        listed = list(segments)
        whole = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        return ds.FileSystemDataset.from_paths(
            [self.path(segment) for segment in listed],
            schema=SCHEMA.append(pa.field("date", pa.date32())),
            format=ds.ParquetFileFormat(default_fragment_scan_options=whole),
            filesystem=self._files,
            partitions=[ds.field("date") == date.fromisoformat(segment.day) for segment in listed],
        )

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._files.open_input_stream(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def by_place(segments: Iterable[Stored]) -> dict[str, list[Stored]]:
    """The cold ones of `segments`, by URI."""
    places: defaultdict[str, list[Stored]] = defaultdict(list)
    for segment in segments:
        if segment.cold:
            places[segment.cold].append(segment)
    return dict(places)


def union(datasets: list[ds.Dataset]) -> ds.Dataset | None:
    if len(datasets) < 2:
        return datasets[0] if datasets else None
    return ds.dataset(datasets)
