"""What stands in the way of keeping a shard on a server, whichever server it is."""

from __future__ import annotations

from rayflow.errors import ConfigurationError, Fenced, StorageError
from rayflow.stores.servers.database import SCHEMA_VERSION, Place


def check_owner(place: Place, epoch: int, owner: int) -> None:
    """`epoch`: of the caller; `owner`: of whoever has opened the shard last. Raises `Fenced`."""
    if owner != epoch:
        raise Fenced(
            f"the sessions of {place} were taken over by their owner number {owner} while number {epoch} did not"
            " answer: this request wrote nothing, ask again",
            epoch=epoch,
            owner=owner,
            retry_after_s=1,
        )


def check_schema(server: str, version: int) -> None:
    """Raises `StorageError` for a later schema than this one."""
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the sessions in {server} were written by a newer rayflow (schema {version}, this one knows"
            f" {SCHEMA_VERSION}): upgrade rayflow",
            schema_version=version,
        )


def other_shards(server: str, place: Place, before: int) -> ConfigurationError:
    """The sessions of the place's namespace are spread over `before` shards."""
    return ConfigurationError(
        f"session.shards is {place.shards}, but the sessions of {place.namespace} in {server} were written with"
        f" {before}: set it back",
        key="session.shards",
    )
