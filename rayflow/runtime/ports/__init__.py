"""What the runtime needs from the world, as protocols.

Rooms further out implement them (models, stores, cluster, analytics) without importing this package; the composition
root puts the two together, and the type checker sees to it that they fit.
"""

from rayflow.runtime.ports.events import EventSink, EventWriter
from rayflow.runtime.ports.fabric import DirectoryView, Fabric, Handler, Inlet, Outlet, StreamHandler
from rayflow.runtime.ports.models import ContextSource, Embedder, ModelClient
from rayflow.runtime.ports.processes import ENDED, Actor, Backend, Record, Supervising
from rayflow.runtime.ports.storage import Books, RecordStore, SessionStore, ShardStore

__all__ = [
    "ENDED",
    "Actor",
    "Backend",
    "Books",
    "ContextSource",
    "DirectoryView",
    "Embedder",
    "EventSink",
    "EventWriter",
    "Fabric",
    "Handler",
    "Inlet",
    "ModelClient",
    "Outlet",
    "Record",
    "RecordStore",
    "SessionStore",
    "ShardStore",
    "StreamHandler",
    "Supervising",
]
