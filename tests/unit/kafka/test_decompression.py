"""Every codec is read as Kafka's own client reads it, and no payload decompresses to more than the bound."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka import codec

from anabranch.kafka.decompression import CHUNK_BYTES, XERIAL_MAGIC, BatchCorrupt, BatchTooLarge, decompress
from tests.support.record_batches import CODECS, ENCODERS, GZIP, LZ4, SNAPPY, ZSTD

BOUND = 1 << 20
TEXT = b"".join(b'{"event_id":"e%d","user_id":"u%d"}' % (number, number % 7) for number in range(5_000))
xerial = codec.snappy_encode


def raw_snappy(payload: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(payload))


def zstd_stream(payload: bytes) -> bytes:
    """As Java writes it: without the size of the content, and with the largest window."""
    parameters = zstandard.ZstdCompressionParameters.from_level(22, write_content_size=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(payload)


DIALECTS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "gzip in members": (GZIP, lambda payload: gzip.compress(payload[:100]) + gzip.compress(payload[100:])),
    "gzip with bytes behind it": (GZIP, lambda payload: gzip.compress(payload) + b"\x00\x00"),
    "raw snappy, as of librdkafka": (SNAPPY, raw_snappy),
    "snappy in xerial's blocks": (SNAPPY, xerial),
    "snappy in small blocks": (SNAPPY, lambda payload: xerial(payload, xerial_blocksize=100)),
    "xerial's streams in a row": (SNAPPY, lambda payload: xerial(payload[:99]) + xerial(payload[99:])),
    "little-endian versions": (SNAPPY, lambda payload: xerial(payload).replace(b"\0\0\0\1" * 2, b"\1\0\0\0" * 2, 1)),
    "lz4 with the size": (LZ4, lambda payload: lz4.frame.compress(payload, block_linked=False)),
    "lz4 as of Java": (LZ4, lambda payload: lz4.frame.compress(payload, block_linked=False, store_size=False)),
    "lz4 with checksums": (LZ4, lambda payload: lz4.frame.compress(payload, content_checksum=True)),
    "lz4 with bytes behind it": (LZ4, lambda payload: lz4.frame.compress(payload) + b"more"),
    "zstd": (ZSTD, codec.zstd_encode),
    "zstd as of Java": (ZSTD, zstd_stream),
    "zstd in frames": (ZSTD, lambda payload: codec.zstd_encode(payload[:99]) + codec.zstd_encode(payload[99:])),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_codec_is_read_as_its_producers_write_it(dialect: str) -> None:
    number, compress = DIALECTS[dialect]
    for payload in (TEXT, TEXT[:1000], b"x" * (5 * CHUNK_BYTES)):
        assert decompress(number, bytes(compress(payload)), BOUND) == payload


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_bound_is_exact(dialect: str) -> None:
    number, compress = DIALECTS[dialect]
    compressed = bytes(compress(TEXT))
    assert decompress(number, compressed, len(TEXT)) == TEXT
    with pytest.raises(BatchTooLarge, match=f"decompress to more than {len(TEXT) - 1}"):
        decompress(number, compressed, len(TEXT) - 1)


@given(st.sampled_from(CODECS), st.binary(min_size=1, max_size=64), st.integers(1, 20_000), st.integers(1, 200_000))
def test_a_payload_of_any_ratio_is_read_up_to_the_bound_and_refused_beyond(
    number: int, pattern: bytes, repeats: int, bound: int
) -> None:
    payload = pattern * repeats
    compressed = bytes(ENCODERS[number](payload))
    if len(payload) <= bound:
        assert decompress(number, compressed, bound) == payload
    else:
        with pytest.raises(BatchTooLarge):
            decompress(number, compressed, bound)


@given(st.sampled_from(CODECS), st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255))))
def test_any_bytes_are_decompressed_or_refused(number: int, payload: bytes, edits: list[tuple[int, int]]) -> None:
    for compressed in (bytearray(payload), bytearray(ENCODERS[number](payload))):
        for position, value in edits:
            if position < len(compressed):
                compressed[position] = value
        try:
            assert len(decompress(number, bytes(compressed), 1000)) <= 1000
        except (BatchCorrupt, BatchTooLarge) as error:
            assert str(error)


@pytest.mark.parametrize("number", [GZIP, SNAPPY, LZ4])
def test_a_payload_that_ends_too_early_is_refused(number: int) -> None:
    """One of zstd gives what there is: its records are then too few."""
    with pytest.raises(BatchCorrupt):
        decompress(number, bytes(ENCODERS[number](TEXT))[:-10], BOUND)


@pytest.mark.parametrize("number", CODECS)
def test_an_empty_payload_holds_nothing_or_is_refused(number: int) -> None:
    if number == ZSTD:
        assert decompress(number, b"", BOUND) == b""
    else:
        with pytest.raises(BatchCorrupt):
            decompress(number, b"", BOUND)


@pytest.mark.parametrize("number", [5, 6, 7])
def test_a_codec_that_kafka_does_not_have_is_named(number: int) -> None:
    with pytest.raises(BatchCorrupt, match=f"codec is {number}, which Kafka does not have"):
        decompress(number, TEXT, BOUND)


BOMB = """
import resource, sys
from anabranch.kafka.decompression import BatchTooLarge, decompress
payload = sys.stdin.buffer.read()
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + {spare}, in_use + {spare}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decompress({number}, payload, 1 << 20)
except BatchTooLarge as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
MEMORY_KB = 6 << 10


@pytest.mark.parametrize("number", CODECS)
def test_what_decompresses_to_64_megabytes_takes_six(number: int) -> None:
    """In a process that could not allocate 64 MB."""
    payload = bytes(ENCODERS[number](b"\x00" * (64 << 20)))
    assert number != ZSTD or len(payload) < 8192
    program = BOMB.format(number=number, spare=32 << 20)
    ran = subprocess.run([sys.executable, "-c", program], input=payload, capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr.decode()
    assert int(ran.stdout) < MEMORY_KB + 6 * len(payload) // 1024


def test_a_block_of_snappy_that_claims_two_gigabytes_allocates_nothing() -> None:
    with pytest.raises(BatchTooLarge):
        decompress(SNAPPY, b"\xff\xff\xff\xff\x07" + b"\x00" * 20, BOUND)


def test_every_member_of_a_long_row_counts() -> None:
    member = gzip.compress(b"\x00" * 10_000)
    assert len(decompress(GZIP, member * 100, BOUND)) == 1_000_000
    with pytest.raises(BatchTooLarge):
        decompress(GZIP, member * 100, 999_999)


@pytest.mark.parametrize(
    ("number", "payload"),
    [
        (GZIP, gzip.compress(b"") * 50_000),
        (SNAPPY, XERIAL_MAGIC + b"\x00" * 8 + b"\x00\x00\x00\x01\x00" * 200_000),
        (LZ4, lz4.frame.compress(b"") * 50_000),
        (ZSTD, codec.zstd_encode(b"") * 100_000),
    ],
    ids=["gzip", "snappy", "lz4", "zstd"],
)
def test_a_megabyte_of_nothing_takes_less_than_two_seconds(number: int, payload: bytes) -> None:
    started_at = time.process_time()
    with contextlib.suppress(BatchCorrupt):
        assert decompress(number, payload, BOUND) == b""
    assert time.process_time() - started_at < 2


def test_a_raw_deflate_stream_is_no_gzip() -> None:
    with pytest.raises(BatchCorrupt, match="no gzip"):
        decompress(GZIP, zlib.compress(TEXT), BOUND)
