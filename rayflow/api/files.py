"""OpenAI's files, for batches: taken in as a stream, kept under the state folder, and given out again.

What is on disk is asked for in threads. A client sees the files of its tenant; those of others are not found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.api.file_shapes import FileDeleted, FileList, FileObject, file_object
from rayflow.api.multipart import Form, read_form
from rayflow.api.openapi import DocumentedApi, answers, bytes_of, form_body
from rayflow.api.paging import Page
from rayflow.api.responses import json_response
from rayflow.app.client import SystemClient
from rayflow.app.jobs.files import Draft, FileStore, Purpose, StoredFile
from rayflow.errors import BodyTooLarge, StorageFull

PIECE_BYTES = 1 << 20
MAX_FILENAME = 255


@dataclass(frozen=True, slots=True)
class Files:
    client: SystemClient

    @property
    def store(self) -> FileStore:
        return FileStore(Path(self.client.config.storage.state))

    async def create(self, request: Request) -> Response:
        exchange, config = Exchange.of(request), self.client.config.batch
        sink = _Sink(self.store)
        try:
            form = await read_form(exchange.headers, request.receive, config.max_file_bytes, sink.write)
            self._check(form, sink.bytes, config.max_file_bytes)
            stored = await asyncio.to_thread(self._keep, sink, exchange.tenant, form.files["file"])
        finally:
            await asyncio.to_thread(sink.drop)
        return json_response(file_object(stored))

    async def list(self, request: Request) -> Response:
        """All, or those of one `purpose`; the newest first unless `order` is asc."""
        page, query = Page.of(request, default=10_000, most=10_000), request.query_params
        files = await asyncio.to_thread(self.store.all, Exchange.of(request).tenant)
        if "purpose" in query:
            files = [stored for stored in files if stored.purpose == query["purpose"]]
        if query.get("order", "desc") == "asc":
            files.reverse()
        shown, more = page.cut(files)
        data = [file_object(stored) for stored in shown]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return json_response(FileList(data=data, first_id=first, last_id=last, has_more=more))

    async def get(self, request: Request, file_id: str) -> Response:
        return json_response(file_object(await asyncio.to_thread(self.store.get, Exchange.of(request).tenant, file_id)))

    async def content(self, request: Request, file_id: str) -> Response:
        path = await asyncio.to_thread(self.store.content, Exchange.of(request).tenant, file_id)
        return await sent(path, "application/octet-stream")

    async def delete(self, request: Request, file_id: str) -> Response:
        await asyncio.to_thread(self.store.delete, Exchange.of(request).tenant, file_id)
        return json_response(FileDeleted(id=file_id))

    def _check(self, form: Form, received: int, limit_bytes: int) -> None:
        if form.fields.get("purpose") != "batch":
            raise fault("purpose", "must be batch: files are taken for batches only")
        if "file" not in form.files:
            raise fault("file", "is missing")
        if received > limit_bytes:
            raise BodyTooLarge(f"the file is larger than {limit_bytes} bytes", limit_bytes=limit_bytes)

    def _keep(self, sink: _Sink, tenant: str, filename: str) -> StoredFile:
        limit = self.client.config.batch.max_stored_bytes
        stored = sum(stored.bytes for stored in self.store.all(tenant))
        if stored + sink.bytes > limit:
            raise StorageFull(f"all files together may have {limit} bytes; delete some of them", limit_bytes=limit)
        return sink.keep(tenant, filename[:MAX_FILENAME], "batch", self.client.now_us() // 1_000_000)


class _Sink:
    """Where an upload goes: a draft of the store, which begins with the first piece."""

    def __init__(self, store: FileStore) -> None:
        self.bytes = 0
        self._store = store
        self._draft: Draft | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    async def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        self.bytes += len(data)
        if self._size >= PIECE_BYTES:
            await asyncio.to_thread(self._flush)

    def keep(self, tenant: str, filename: str, purpose: Purpose, created_s: int) -> StoredFile:
        self._flush()
        return cast(Draft, self._draft).keep(tenant, filename, purpose, created_s)

    def drop(self) -> None:
        if self._draft is not None:
            self._draft.drop()

    def _flush(self) -> None:
        if self._draft is None:
            self._draft = self._store.draft()
        self._draft.write(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0


async def sent(path: Path, media_type: str, *, once: bool = False) -> Response:
    """A file as an answer, in pieces. `once`: it is deleted while it is sent."""
    file = await asyncio.to_thread(path.open, "rb")
    size = path.stat().st_size
    if once:
        path.unlink(missing_ok=True)

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece
        finally:
            file.close()

    return StreamingResponse(pieces(), media_type=media_type, headers={"content-length": str(size)})


def add_file_routes(api: DocumentedApi, files: Files) -> None:
    one = "/v1/files/{file_id}"
    api.route(
        "POST",
        "/v1/files",
        files.create,
        "Hand in a file for a batch",
        answers(200, "The file.", FileObject, openai=True),
        form_body({"file": "binary", "purpose": "batch"}),
    )
    api.route("GET", "/v1/files", files.list, "Your files", answers(200, "A page of files.", FileList, openai=True))
    api.route("GET", one, files.get, "One file", answers(200, "The file.", FileObject, openai=True))
    api.route("GET", f"{one}/content", files.content, "What a file holds", bytes_of("The bytes.", openai=True))
    api.route("DELETE", one, files.delete, "Delete a file", answers(200, "It is gone.", FileDeleted, openai=True))
