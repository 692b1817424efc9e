"""Responses whose body and headers are bytes already."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from rayflow.api.problems import RawHeaders


class Encoded(Response):
    """A complete answer. Skips what Starlette does to turn text into bytes."""

    def __init__(
        self, body: bytes, headers: RawHeaders | None = None, status: int = 200, media_type: str = "application/json"
    ) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *(headers or ()),
        ]


def json_response(value: msgspec.Struct, headers: RawHeaders | None = None, status: int = 200) -> Encoded:
    return Encoded(msgspec.json.encode(value), headers, status)
