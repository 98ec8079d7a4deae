"""Compressed node status is read whatever Argo packed it with, and nothing else is."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import packing
from resumer.errors import MalformedWorkflowError

NODES: dict[str, Any] = {
    "play-1": {"id": "play-1", "type": "Suspend", "phase": "Running", "displayName": "wait <é>"},
    "play-2": {"id": "play-2", "children": ["play-1"], "progress": "0/1", "n": 12345678901234567},
}
PLAIN = json.dumps(NODES).encode()


def brotli_fast(content: bytes) -> bytes:
    packed: bytes = brotli.compress(content, quality=5)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "brotli": brotli_fast,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def noise(size: int) -> bytes:
    """Bytes that compress badly, the same each time."""
    return b"".join(zlib.crc32(bytes([i % 251, i // 251])).to_bytes(4) for i in range(size // 4))


@pytest.mark.parametrize("name", PACKERS)
def test_each_format_of_argo_is_read(name: str) -> None:
    assert packing.decode(text(PACKERS[name](PLAIN))) == NODES


@pytest.mark.parametrize("name", PACKERS)
def test_a_large_node_map_is_read_in_pieces(name: str) -> None:
    nodes = {f"node-{i}": {"noise": noise(400).hex(), "i": i} for i in range(4000)}
    content = json.dumps(nodes).encode()
    assert len(content) > 3 * 1024 * 1024
    assert packing.decode(text(PACKERS[name](content))) == nodes


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_content_in_several_parts_is_one_content(name: str) -> None:
    packer = PACKERS[name]
    middle = len(PLAIN) // 2
    assert packing.decode(text(packer(PLAIN[:middle]) + packer(PLAIN[middle:]))) == NODES


def test_a_frame_of_zstd_may_end_inside_a_piece_of_input() -> None:
    # Several pieces of input in the first frame, then a second one that begins inside a piece.
    content = json.dumps({"a": noise(1500).hex()}).encode()
    for middle in range(900, 910):
        packed = zstandard.compress(content[:middle]) + zstandard.compress(content[middle:])
        assert packing.decode(text(packed)) == {"a": noise(1500).hex()}


def test_line_breaks_in_the_base64_text_are_skipped_as_go_does() -> None:
    packed = text(gzip.compress(PLAIN, mtime=0))
    assert packing.decode(f"{packed[:20]}\r\n{packed[20:]}\n") == NODES


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_packed_is_read_back(nodes: dict[str, Any]) -> None:
    packed = packing.encode(nodes)
    assert packing.decode(packed) == nodes
    assert packed == packing.encode(nodes)


def test_what_is_packed_is_gzip_as_go_reads_it() -> None:
    packed = base64.b64decode(packing.encode(NODES))
    assert packed.startswith(b"\x1f\x8b\x08")
    assert json.loads(gzip.decompress(packed)) == NODES


def test_a_value_that_is_not_json_is_not_packed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        packing.encode({"a": float("nan")})


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("%%%", "is not base64"),
        ("YQ", "is not base64"),
        ("é", "is not base64"),
        (text(b"garbage garbage"), "is not valid brotli (nor zstd, nor gzip)"),
        (text(b"abc"), "ends too early"),
        (text(b"\x1f\x8bgarbage"), "is not valid gzip"),
        (text(b"\x28\xb5\x2f\xfdgarbage"), "is not valid zstd"),
        (text(b"\xff\xff\xff garbage"), "is not valid brotli (nor zstd, nor gzip)"),
        (text(gzip.compress(PLAIN, mtime=0) + b"garbage"), "is not valid gzip"),
        (text(brotli.compress(PLAIN) + b"garbage"), "is not valid brotli"),
        (text(zstandard.compress(PLAIN) + b"garbage"), "is not valid zstd"),
        (text(gzip.compress(b"[]", mtime=0)), "does not hold a JSON object"),
        (text(gzip.compress(b"null", mtime=0)), "does not hold a JSON object"),
        (text(gzip.compress(b"{", mtime=0)), "does not hold JSON"),
        (text(gzip.compress(b"", mtime=0)), "does not hold JSON"),
        (text(gzip.compress(b'{"a": NaN}', mtime=0)), "does not hold JSON"),
        (text(gzip.compress(b'{"a": "\xff"}', mtime=0)), "does not hold JSON"),
        (text(gzip.compress(b'{"a":' * 100_000, mtime=0)), "does not hold JSON"),
        (text(gzip.compress(b'{"a":' + b"1" * 10_000 + b"}", mtime=0)), "does not hold JSON"),
    ],
)
def test_what_argo_would_not_write_is_refused_and_named(packed: str, complaint: str) -> None:
    with pytest.raises(MalformedWorkflowError) as caught:
        packing.decode(packed)
    assert complaint in str(caught.value)
    assert "status.compressedNodes" in str(caught.value)


@pytest.mark.parametrize("name", PACKERS)
def test_a_truncated_content_is_refused_wherever_it_ends(name: str) -> None:
    whole = PACKERS[name](PLAIN)
    for end in range(1, len(whole)):
        with pytest.raises(MalformedWorkflowError):
            packing.decode(text(whole[:end]))
    for end in (len(whole) // 2, len(whole) - 1):
        with pytest.raises(MalformedWorkflowError, match="ends too early"):
            packing.decode(text(whole[:end]))


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_refused_before_it_fills_the_memory(name: str) -> None:
    bomb = text(PACKERS[name](b" " * (64 * 1024 * 1024)))
    assert len(bomb) < 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(MalformedWorkflowError, match="unfolds to more than 1048576 bytes"):
            packing.decode(bomb, limit=1024 * 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 1024 * 1024


@pytest.mark.parametrize("name", PACKERS)
def test_the_limit_itself_is_allowed(name: str) -> None:
    packed = text(PACKERS[name](PLAIN))
    assert packing.decode(packed, limit=len(PLAIN)) == NODES
    with pytest.raises(MalformedWorkflowError, match="unfolds to more than"):
        packing.decode(packed, limit=len(PLAIN) - 1)


@given(st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"]), st.binary(max_size=80))
def test_any_bytes_are_nodes_or_refused(magic: bytes, rest: bytes) -> None:
    try:
        nodes = packing.decode(text(magic + rest))
    except MalformedWorkflowError:
        return
    assert isinstance(nodes, dict)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_many_tiny_members_are_refused_because_each_costs_a_copy_of_the_rest(name: str) -> None:
    with pytest.raises(MalformedWorkflowError, match="more than 16 members"):
        packing.decode(text(PACKERS[name](b"") * 1000))
