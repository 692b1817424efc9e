"""Bodies of multipart/form-data, read as they arrive: a file goes to its place piece by piece and is never in memory.

`python_multipart` finds the parts; what is here bounds them. A part named by `filename` is a file, any other one a
field (RFC 7578).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from rayflow.api.body import FIRST_BYTE_S, MIN_BYTES_PER_S, too_large
from rayflow.api.decode import fault
from rayflow.api.headers import Headers
from rayflow.api.problems import BodyTooSlow, ClientGone, UnsupportedMediaType
from rayflow.errors import ValidationError

MAX_FIELD_BYTES = 4096
MAX_PARTS = 20
OVERHEAD_BYTES = 64 << 10
"""What boundaries and fields may have on top of the file."""

Write = Callable[[bytes], Awaitable[None]]


@dataclass
class Form:
    """`fields` by name; `files`: the names that clients gave their files, by field."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


async def read_form(headers: Headers, receive: Receive, limit_bytes: int, write: Write) -> Form:
    """Read the whole body; what the file named `file` holds is handed to `write` in pieces.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `BodyTooSlow`, `ValidationError`, `ClientGone`, and what `write`
    raises.
    """
    media, options = parse_options_header(headers.get(b"content-type", b"").decode("latin-1"))
    if media != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedMediaType("send the body as Content-Type: multipart/form-data", param="content-type")
    try:
        parts = _Parts(options[b"boundary"])
        async with aclosing(_chunks(headers, receive, limit_bytes)) as chunks:
            async for chunk in chunks:
                for piece in parts.take(chunk):
                    await write(piece)
    except FormParserError as problem:
        raise ValidationError(f"the body is not multipart/form-data: {problem}") from None
    return parts.whole()


async def _chunks(headers: Headers, receive: Receive, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    if int(headers.get(b"content-length", b"0")) > limit_bytes + OVERHEAD_BYTES:
        raise too_large(limit_bytes)
    loop = asyncio.get_running_loop()
    started, received = loop.time(), 0
    while True:
        try:
            async with asyncio.timeout_at(started + FIRST_BYTE_S + received / MIN_BYTES_PER_S):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(f"{received} bytes of the body came in {loop.time() - started:.0f} s") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        data = message.get("body", b"")
        received += len(data)
        if received > limit_bytes + OVERHEAD_BYTES:
            raise too_large(limit_bytes)
        yield data
        if not message.get("more_body", False):
            return


class _Parts:
    """What has been understood so far."""

    def __init__(self, boundary: bytes) -> None:
        self._form = Form()
        self._pieces: list[bytes] = []
        self._count = 0
        self._ended = False
        self._head: dict[str, str] = {}
        self._key = self._value = b""
        self._name = ""
        self._filename: str | None = None
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_head,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def take(self, chunk: bytes) -> list[bytes]:
        """Read on. Returns what of the file has come; raises `FormParserError` and `ValidationError`."""
        self._pieces = []
        self._parser.write(chunk)
        return self._pieces

    def whole(self) -> Form:
        """Raises `ValidationError` where the end is missing."""
        if not self._ended:
            raise ValidationError("the body breaks off: its last boundary is missing")
        return self._form

    def _on_part(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise ValidationError(f"the body has more than {MAX_PARTS} parts")
        self._head = {}
        self._text.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._key += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._head[self._key.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._key = self._value = b""

    def _on_head(self) -> None:
        _, given = parse_options_header(self._head.get("content-disposition", "").encode("utf-8"))
        if b"name" not in given:
            raise ValidationError("the body is not multipart/form-data: a part has no name in its Content-Disposition")
        self._name = given[b"name"].decode("utf-8", "replace")
        filename = given.get(b"filename")
        self._filename = None if filename is None else filename.decode("utf-8", "replace")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._filename is None:
            self._text += data[start:end]
            if len(self._text) > MAX_FIELD_BYTES:
                raise fault(self._name, f"is longer than {MAX_FIELD_BYTES} bytes")
        elif self._name == "file":
            self._pieces.append(data[start:end])

    def _on_part_end(self) -> None:
        if self._filename is None:
            self._form.fields[self._name] = self._text.decode("utf-8", "replace")
        else:
            self._form.files[self._name] = self._filename

    def _on_end(self) -> None:
        self._ended = True
