"""A cache of text vectors on disk: a text is embedded once per text transformer, for all releases and processes."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anabranch.release import Manifest

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
DIGEST_BYTES = 32
FOLDER = "text-vectors"


class TextEmbeddingCache:
    """Vectors [n, T] of one text transformer by the text's sha256, in memory and in an append-only file.

    A record of the file is the 32 bytes of the digest and the vector as little-endian float32. Processes may share the
    file: each appends under a lock. It does not see what others append after it opened the file, and may embed such a
    text again.
    """

    def __init__(self, path: Path, dims: int) -> None:
        self._path = path
        self._record = np.dtype([("digest", f"V{DIGEST_BYTES}"), ("vector", "<f4", (dims,))])
        path.parent.mkdir(parents=True, exist_ok=True)
        records = self._read()
        self._row = {bytes(digest): row for row, digest in enumerate(records["digest"])}
        self._vectors: Vectors = np.array(records["vector"], np.float32).reshape(-1, dims)
        self._count = len(records)

    @classmethod
    def for_release(cls, data_dir: Path, manifest: Manifest) -> TextEmbeddingCache:
        """The cache of a release's text transformer."""
        return cls.for_model(data_dir, manifest.files, manifest.text_dims)

    @classmethod
    def for_model(cls, data_dir: Path, digests: Mapping[str, str], dims: int) -> TextEmbeddingCache:
        """The cache of a text transformer; the sha256 of text.onnx and of tokenizer.json give the file's name."""
        model = digests["text.onnx"] + digests["tokenizer.json"]
        name = hashlib.sha256(model.encode()).hexdigest()[:32]
        return cls(data_dir / FOLDER / f"{name}.f32", dims)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        return _digest(text) in self._row

    def get(self, texts: Sequence[str], encode: Callable[[Sequence[str]], Vectors]) -> Vectors:
        """Vectors [n, T] of the texts; `encode` is called once, with the distinct texts that are not in the cache."""
        digests = [_digest(text) for text in texts]
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._row}
        if missing:
            self._add(list(missing), encode(list(missing.values())))
        return self._vectors[[self._row[digest] for digest in digests]]

    def _add(self, digests: list[bytes], vectors: Vectors) -> None:
        records = np.empty(len(digests), self._record)
        records["digest"] = np.frombuffer(b"".join(digests), f"V{DIGEST_BYTES}")
        records["vector"] = vectors
        self._append(records)
        self._row.update((digest, self._count + index) for index, digest in enumerate(digests))
        self._reserve(self._count + len(digests))
        self._vectors[self._count : self._count + len(digests)] = vectors
        self._count += len(digests)

    def _append(self, records: NDArray[np.void]) -> None:
        """Append to the file. It only saves time, so without room for it the vectors are kept in memory alone."""
        try:
            with self._path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file.fileno()).st_size  # others may have appended while this one waited for the lock
                file.truncate(size - size % self._record.itemsize)  # drop a record cut off by a crash
                file.write(records.tobytes())
        except OSError as error:
            log.warning(
                "%s text vectors are not stored in %s: %s; make room, else the next start embeds these texts again",
                f"{len(records):,}",
                self._path,
                error.strerror,
            )

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self._vectors):
            grown = np.zeros((max(capacity, 2 * len(self._vectors)), self._vectors.shape[1]), np.float32)
            grown[: self._count] = self._vectors[: self._count]
            self._vectors = grown

    def _read(self) -> NDArray[np.void]:
        if not self._path.exists():
            return np.empty(0, self._record)
        complete = self._path.stat().st_size // self._record.itemsize  # the last record may be cut off by a crash
        return np.fromfile(self._path, self._record, count=complete)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
