"""Telling callback URLs of the end of a job: signed, tried again with longer and longer pauses, and what became of it
kept in the record."""

from __future__ import annotations

import asyncio
import hmac
from hashlib import sha256

import msgspec

from rayflow.api.job_shapes import job_of
from rayflow.app.client import SystemClient
from rayflow.app.jobs.records import Callback, JobRecord, JobStore
from rayflow.callbacks import Callbacks
from rayflow.errors import WorkflowError

PAUSES_S = (5, 30, 120, 600, 3600)
"""Between the tries; after the last one it is given up."""
SIGNATURE = "X-Rayflow-Signature"


class Notices:
    """What is told: the job as GET /batches/{id} shows it."""

    def __init__(self, client: SystemClient, store: JobStore) -> None:
        self._client = client
        self._store = store

    def due(self, record: JobRecord) -> bool:
        """Whether it is time to tell of this job."""
        callback = record.callback
        return callback is not None and callback.state == "waiting" and self._now_s() >= callback.next_s

    async def tell(self, record: JobRecord) -> None:
        """One try, and what became of it in the record. Raises `StorageError`."""
        assert record.callback is not None
        config = self._client.config
        body = msgspec.json.encode(job_of(record))
        headers = {"X-Rayflow-Job": record.id}
        if config.batch.callback_secret is not None:
            headers[SIGNATURE] = signature(config.batch.callback_secret.get_secret_value(), self._now_s(), body)
        try:
            await Callbacks(config.security.callback_hosts).post(record.callback.url, body, headers)
        except WorkflowError as error:
            after = self._failed(record.callback, error)
        else:
            after = msgspec.structs.replace(
                record.callback, state="delivered", attempts=record.callback.attempts + 1, error=""
            )
        await asyncio.to_thread(self._note, record, after)

    def _note(self, told: JobRecord, callback: Callback) -> None:
        files = self._store.files(told.id)
        now = files.read()
        if now is not None and now.status == told.status:  # else it goes on, and will be told of its next end
            files.write(msgspec.structs.replace(now, callback=callback))

    def _failed(self, before: Callback, error: WorkflowError) -> Callback:
        attempts = before.attempts + 1
        # A URL that must not be told will not become one that may.
        last = attempts > len(PAUSES_S) or not error.retryable
        return Callback(
            before.url,
            "failed" if last else "waiting",
            attempts,
            f"{error.slug}: {error.message}",
            0 if last else self._now_s() + PAUSES_S[attempts - 1],
        )

    def _now_s(self) -> int:
        return self._client.now_us() // 1_000_000


def signature(secret: str, at_s: int, body: bytes) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`, so that an old message cannot be sent again as a new one."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
    return f"t={at_s},v1={digest}"
