"""Compressed node status: ``status.compressedNodes``, a base64 text of compressed JSON.

Argo packs ``status.nodes`` when the whole object grows over 1 MiB. The bytes tell how: zstd and
gzip have a magic number, anything else is brotli (argo-workflows ``util/file/fileutil.go``; zstd
and brotli since 4.1). What we write is always gzip, which every version reads.

Anybody who may write a Workflow can put anything there. Reading is therefore done in pieces and
stops at a limit, so that a small text cannot unfold into all of the memory.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import brotli
import zstandard

from resumer.errors import MalformedWorkflowError

MAX_UNPACKED: Final = 64 * 1024 * 1024
"""Bytes of JSON that are read at most; Argo's own limit of an etcd object is far below."""

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_MEMBERS: Final = 16
"""Argo writes one."""
_PIECE: Final = 1024 * 1024
# A block of zstd unfolds 4 bytes into 128 KiB, and its decoder has no limit on the output of a
# call: small pieces of input keep what one call can yield near 8 MiB.
_ZSTD_INPUT: Final = 256


def decode(text: str, *, limit: int = MAX_UNPACKED) -> dict[str, Any]:
    """Unpacks the node map.

    Args:
        text: The value of ``status.compressedNodes``.
        limit: The most bytes of JSON.

    Raises:
        MalformedWorkflowError: It is not base64, not completely one of the three formats, unfolds
            to more than the limit, or is not a JSON object.
    """
    try:
        packed = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except ValueError:
        raise MalformedWorkflowError("status.compressedNodes is not base64") from None
    if not packed:
        raise MalformedWorkflowError("status.compressedNodes is empty")
    name, pieces = _format(packed)
    content = bytearray()
    try:
        for piece in pieces:
            content += piece
            if len(content) > limit:
                raise MalformedWorkflowError(
                    f"status.compressedNodes unfolds to more than {limit} bytes"
                )
    except (zlib.error, zstandard.ZstdError, brotli.error):
        raise MalformedWorkflowError(f"status.compressedNodes is not valid {name}") from None
    return _nodes(content)


def encode(nodes: Mapping[str, Any]) -> str:
    """Packs a node map with gzip, the same text for the same nodes."""
    content = json.dumps(nodes, separators=(",", ":"), allow_nan=False).encode()
    packer = zlib.compressobj(wbits=_GZIP_FORMAT)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode()


def _format(packed: bytes) -> tuple[str, Iterator[bytes]]:
    if packed.startswith(_ZSTD_MAGIC):
        return "zstd", _unzstd(packed)
    if packed.startswith(_GZIP_MAGIC):
        return "gzip", _gunzip(packed)
    return "brotli (nor zstd, nor gzip)", _unbrotli(packed)


def _gunzip(packed: bytes) -> Iterator[bytes]:
    members = 0
    while packed:  # Several gzip members one after the other are one content.
        members = _counted(members)
        decoder = zlib.decompressobj(wbits=_GZIP_FORMAT)
        while not decoder.eof:
            piece = decoder.decompress(packed, _PIECE)
            packed = decoder.unconsumed_tail
            if not piece and not packed and not decoder.eof:
                _truncated()
            yield piece
        packed = decoder.unused_data


def _unzstd(packed: bytes) -> Iterator[bytes]:
    source = zstandard.ZstdDecompressor(max_window_size=MAX_UNPACKED)
    members = 0
    while packed:  # Several zstd frames one after the other are one content.
        members = _counted(members)
        decoder = source.decompressobj()
        position = 0
        while not decoder.eof:
            if position >= len(packed):
                _truncated()
            yield decoder.decompress(packed[position : position + _ZSTD_INPUT])
            position += _ZSTD_INPUT
        packed = decoder.unused_data + packed[position:]


def _counted(members: int) -> int:
    """One member more; each costs a copy of all that follow, so tiny ones are limited."""
    if members >= _MEMBERS:
        raise MalformedWorkflowError(f"status.compressedNodes has more than {_MEMBERS} members")
    return members + 1


def _unbrotli(packed: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    piece = decoder.process(packed, output_buffer_limit=_PIECE)
    while not decoder.is_finished():
        if not piece:
            _truncated()
        yield piece
        piece = decoder.process(b"", output_buffer_limit=_PIECE)
    yield piece


def _nodes(content: bytes | bytearray) -> dict[str, Any]:
    try:
        nodes = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedWorkflowError("status.compressedNodes does not hold JSON") from None
    if not isinstance(nodes, dict):
        raise MalformedWorkflowError("status.compressedNodes does not hold a JSON object")
    return nodes


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _truncated() -> NoReturn:
    raise MalformedWorkflowError("status.compressedNodes ends too early: it is truncated")
