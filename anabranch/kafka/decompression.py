"""Decompression of record batches by every codec that Kafka has, bounded while it streams.

The broker limits a batch as it is compressed, not what it decompresses to: zstd reaches 32,000:1, gzip 1,000:1. The
codecs of kafka-python 3.0.12 decompress everything before anybody can look at the size. No upstream issue is known.

A broker decompresses a batch before it appends it, as Kafka's own client does. What that client reads is read here
too: several gzip members in a batch, snappy with and without the blocks of xerial's snappy-java, bytes behind an lz4
frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import cramjam
import zstandard
from lz4.frame import LZ4FrameDecompressor

NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
"""By their numbers in the attributes of a batch."""
CHUNK_BYTES = 1 << 14
CHUNK_RATIO = 4
"""A chunk has this many times the bytes of its payload, so that one or two hold most batches of JSON."""
GZIP = 16 + zlib.MAX_WBITS
GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_MEMBERS = 100
"""All known producers write one. What follows a member is copied: a megabyte of empty ones would take seconds."""
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = len(XERIAL_MAGIC) + 8
"""The magic and two version numbers, which no reader looks at."""
BLOCK_LENGTH = struct.Struct(">i")


class BatchTooLarge(ValueError):
    """A batch decompresses to more than the bound."""


class BatchCorrupt(ValueError):
    """The bytes of a batch are not those of its codec."""


def decompress(codec: int, payload: bytes, max_bytes: int) -> bytes:
    """The decompressed payload of a batch; `codec` is the number in the batch's attributes.

    At most `max_bytes` and one chunk are decompressed.

    Raises `BatchTooLarge` beyond `max_bytes`, and `BatchCorrupt`.
    """
    if codec not in _CODECS:
        raise BatchCorrupt(f"its compression codec is {codec}, which Kafka does not have")
    parts, size = [], 0
    try:
        for part in _CODECS[codec](payload, max(CHUNK_BYTES, CHUNK_RATIO * len(payload)), max_bytes):
            size += len(part)
            if size > max_bytes:
                raise BatchTooLarge
            parts.append(part)
    except BatchTooLarge:
        raise BatchTooLarge(
            f"{len(payload)} bytes of {NAMES[codec]} decompress to more than {max_bytes}, which is the most of a batch"
        ) from None
    except _ERRORS as error:
        raise BatchCorrupt(f"its {len(payload)} bytes are no {NAMES[codec]}: {error}") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gzip(payload: bytes, chunk: int, max_bytes: int) -> Iterator[bytes]:
    for _ in range(MAX_GZIP_MEMBERS):
        member = zlib.decompressobj(GZIP)
        while not member.eof:
            part = member.decompress(payload, chunk)
            if not part and not member.unconsumed_tail and not member.eof:
                raise EOFError("it ends too early")
            payload = member.unconsumed_tail
            yield part
        payload = member.unused_data
        if not payload.startswith(GZIP_MAGIC):
            return
    raise EOFError(f"it has more than {MAX_GZIP_MEMBERS} members")


def _snappy(payload: bytes, chunk: int, max_bytes: int) -> Iterator[bytes]:
    for block in _snappy_blocks(payload):
        if cramjam.snappy.decompress_raw_len(block) > max_bytes:  # which is allocated before anything is decompressed
            raise BatchTooLarge
        yield bytes(cramjam.snappy.decompress_raw(block))


def _snappy_blocks(payload: bytes) -> Iterator[bytes]:
    if not payload.startswith(XERIAL_MAGIC):
        yield payload
        return
    start = 0
    while start < len(payload):
        if payload.startswith(XERIAL_MAGIC, start):  # streams may follow each other
            start += XERIAL_HEADER_BYTES
            continue
        (length,) = BLOCK_LENGTH.unpack_from(payload, start)
        start += BLOCK_LENGTH.size
        if not 0 <= length <= len(payload) - start:
            raise EOFError(f"a block of {length} bytes does not fit")
        yield payload[start : start + length]
        start += length


def _lz4(payload: bytes, chunk: int, max_bytes: int) -> Iterator[bytes]:
    frame = LZ4FrameDecompressor()
    while not frame.eof:
        part = frame.decompress(payload, max_length=chunk)
        payload = b""
        if not part and not frame.eof:
            raise EOFError("it ends too early")
        yield part


def _zstd(payload: bytes, chunk: int, max_bytes: int) -> Iterator[bytes]:
    reader = _zstd_decompressor.stream_reader(payload, read_across_frames=True)
    while part := reader.read(chunk):
        yield part


_zstd_decompressor = zstandard.ZstdDecompressor()
_CODECS: dict[int, Callable[[bytes, int, int], Iterator[bytes]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
_ERRORS = (zlib.error, cramjam.DecompressionError, RuntimeError, zstandard.ZstdError, EOFError, struct.error)
"""RuntimeError is what lz4 raises."""
