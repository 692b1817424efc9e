"""Forms are read as they arrive, however their bytes are cut."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rayflow.api.multipart import MAX_FIELD_BYTES, Form, read_form
from rayflow.api.problems import ClientGone, UnsupportedMediaType
from rayflow.errors import BodyTooLarge, ValidationError

BOUNDARY = "--xY.z"
HEADERS = {b"content-type": f'multipart/form-data; boundary="{BOUNDARY}"'.encode()}


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: a/b\r\n\r\n'
    return head.encode() + value + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def read(*chunks: bytes, limit: int = 10_000, cut: bool = False, headers: Any = HEADERS) -> tuple[Form, bytes]:
    left = list(chunks)
    written: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left) or cut}

    async def write(data: bytes) -> None:
        written.append(data)

    form = await read_form(headers, receive, limit, write)  # type: ignore[arg-type]
    return form, b"".join(written)


CONTENT = b"a\r\n--\r\n--" + BOUNDARY.encode()[:-1] + b"!\r\n\x00\xff\r\n"
WHOLE = body(part("purpose", b"batch"), part("file", CONTENT, 'q"uote\\.jsonl'.replace('"', '\\"')), part("x", b""))


@pytest.mark.parametrize("seed", range(20))
async def test_a_form_means_the_same_however_it_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    places = sorted(rng.sample(range(len(WHOLE) + 1), rng.randrange(0, 40)))
    pieces = [WHOLE[begin:end] for begin, end in zip([0, *places], [*places, len(WHOLE)], strict=True)]
    form, content = await read(*pieces)
    assert content == CONTENT
    assert form.fields == {"purpose": "batch", "x": ""} and list(form.files) == ["file"]


async def test_each_byte_may_come_alone_and_what_follows_is_ignored() -> None:
    whole = WHOLE + b"\r\n"
    form, content = await read(*(whole[i : i + 1] for i in range(len(whole))))
    assert content == CONTENT and form.fields["purpose"] == "batch"


async def test_a_file_of_another_name_is_not_kept() -> None:
    form, content = await read(body(part("other", b"data", "x")))
    assert content == b"" and form.files == {"other": "x"}


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:-8],
        b"",
        b"no form at all",
        f"--{BOUNDARY}xx".encode(),
        f"--{BOUNDARY}\r\nContent-Type: a/b\r\n\r\nx\r\n--{BOUNDARY}--".encode(),
        f"--{BOUNDARY}\r\nA: {'x' * 5000}".encode() + b"x" * 100,
        body(part("field", b"x" * (MAX_FIELD_BYTES + 1))),
        body(*(part(f"f{n}", b"") for n in range(30))),
    ],
)
async def test_what_is_no_form_is_refused(data: bytes) -> None:
    with pytest.raises(ValidationError):
        await read(data)


async def test_no_more_than_the_limit_is_read_whatever_was_declared() -> None:
    large = body(part("file", b"x" * 200_000, "a"))
    with pytest.raises(BodyTooLarge):
        await read(large, headers={**HEADERS, b"content-length": b"%d" % len(large)})
    with pytest.raises(BodyTooLarge):
        await read(*(large[i : i + 1000] for i in range(0, len(large), 1000)))


async def test_a_client_that_leaves_is_gone_and_another_media_type_refused() -> None:
    with pytest.raises(ClientGone):
        await read(WHOLE[:50], cut=True)
    with pytest.raises(UnsupportedMediaType):
        await read(WHOLE, headers={b"content-type": b"application/json"})
