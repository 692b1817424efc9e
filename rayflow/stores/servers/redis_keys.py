"""The names of the keys of a shard in Redis. Names of tenants and users come with their lengths, so that no two of them
run together into the same key."""

from __future__ import annotations

from rayflow.stores.servers.database import Place
from rayflow.stores.servers.rows import Head, Key


class Keys:
    schema = "rayflow:schema"

    def __init__(self, place: Place) -> None:
        self._prefix = f"rayflow:{{{place.namespace}:{place.shard}-of-{place.shards}}}:"
        self.owner = self._prefix + "owner"
        """Hash: epoch and number of the last batch."""
        self.use = self._prefix + "by-use"
        """Sorted set: all sessions by their last change."""
        self.birth = self._prefix + "by-birth"
        """Sorted set: all sessions by their beginning."""
        self.wrappers = self._prefix + "by-key"
        """Sorted set: all sessions by what wraps their data key, in the order of bytes."""
        self.tenants = self._prefix + "tenants"
        """Hash: how many sessions each has."""

    @staticmethod
    def shards(namespace: str) -> str:
        return f"rayflow:{{{namespace}}}:shards"

    def head(self, key: Key) -> str:
        return f"{self._prefix}head:{self.member(key)}"

    def turns(self, key: Key) -> str:
        return f"{self._prefix}turns:{self.member(key)}"

    def runs(self, key: Key) -> str:
        return f"{self._prefix}runs:{self.member(key)}"

    def tenant(self, tenant: str) -> str:
        """Sorted set: the sessions of a tenant by their beginning."""
        return f"{self._prefix}of-tenant:{tenant}"

    def user(self, tenant: str, user_id: str) -> str:
        """Sorted set: the sessions of a user by their beginning."""
        return f"{self._prefix}of-user:{self.member((tenant, user_id))}"

    @staticmethod
    def member(key: Key) -> str:
        tenant, session_id = key
        return f"{len(tenant)}:{tenant}:{session_id}"

    @staticmethod
    def parse(member: bytes) -> Key:
        length, _, rest = member.decode().partition(":")
        end = int(length)
        return rest[:end], rest[end + 1 :]

    @staticmethod
    def wrapped_by(wrapper: bytes) -> bytes:
        return wrapper.hex().encode() + b" "

    def wrapped(self, head: Head) -> bytes:
        return self.wrapped_by(head.wrapper) + self.member(head.of).encode()

    def parse_wrapped(self, member: bytes) -> Key:
        return self.parse(member.partition(b" ")[2])
