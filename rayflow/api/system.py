"""What operators and clients ask of the service itself: health, readiness, metrics, model ids."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from rayflow.api.catalogue import Catalogue
from rayflow.api.metrics import Metrics
from rayflow.api.responses import Encoded, json_response
from rayflow.app.caches import CacheDesk
from rayflow.app.client import SystemClient
from rayflow.app.figures import figures
from rayflow.errors import Unavailable


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """`sessions`: "volatile" where they may be lost, by the configuration's own choice. `websockets`: open ones."""

    status: str
    sessions: str = ""
    websockets: int = 0


@dataclass(frozen=True, slots=True)
class System:
    client: SystemClient
    catalogue: Catalogue
    metrics: Metrics

    async def healthz(self) -> Response:
        return json_response(self._state("ok"))

    async def readyz(self) -> Response:
        if not self.client.ready:
            raise Unavailable("not ready: a router or a session store is not up; try again shortly", retry_after_s=1)
        return json_response(self._state("ready"))

    def _state(self, status: str) -> State:
        volatile = self.client.config.session.volatile
        return State(status, "volatile" if volatile else "", len(self.metrics.sockets))

    async def expose(self) -> Response:
        config = self.client.config
        if config.caches.results.enabled or config.embeddings.enabled:
            self.metrics.caches.counts = await CacheDesk(self.client).counts()
        self.metrics.figures.samples = await figures(self.client)
        return Encoded(self.metrics.expose(), media_type=CONTENT_TYPE_LATEST)

    async def models(self) -> Response:
        return json_response(self.catalogue.list())

    async def model(self, model_id: str) -> Response:
        return json_response(self.catalogue.get(model_id))
