"""The names of the keys of a shard in Redis. Names of tenants and users come with their lengths, so that no two of them
run together into the same key."""

from __future__ import annotations

from rayflow.stores.servers.database import Place
from rayflow.stores.servers.record_draft import Owner, Spot
from rayflow.stores.servers.rows import Head, Key


class Keys:
    schema = "rayflow:schema"

    def __init__(self, place: Place) -> None:
        self.prefix = f"rayflow:{{{place.namespace}:{place.shard}-of-{place.shards}}}:"
        self.owner = self.prefix + "owner"
        """Hash: epoch and number of the last batch."""
        self.use = self.prefix + "by-use"
        """Sorted set: all sessions by their last change."""
        self.birth = self.prefix + "by-birth"
        """Sorted set: all sessions by their beginning."""
        self.wrappers = self.prefix + "by-key"
        """Sorted set: all sessions by what wraps their data key, in the order of bytes."""
        self.tenants = self.prefix + "tenants"
        """Hash: how many sessions each has."""

    @staticmethod
    def shards(namespace: str) -> str:
        return f"rayflow:{{{namespace}}}:shards"

    def head(self, key: Key) -> str:
        return f"{self.prefix}head:{self.member(key)}"

    def turns(self, key: Key) -> str:
        return f"{self.prefix}turns:{self.member(key)}"

    def runs(self, key: Key) -> str:
        return f"{self.prefix}runs:{self.member(key)}"

    def tenant(self, tenant: str) -> str:
        """Sorted set: the sessions of a tenant by their beginning."""
        return f"{self.prefix}of-tenant:{tenant}"

    def user(self, tenant: str, user_id: str) -> str:
        """Sorted set: the sessions of a user by their beginning."""
        return f"{self.prefix}of-user:{self.member((tenant, user_id))}"

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


class RecordKeys:
    """Those of the records. Their names hold no NUL, so it stands between them: that keeps them in order."""

    def __init__(self, keys: Keys) -> None:
        self._prefix = keys.prefix
        self.owners = keys.prefix + "owners"
        """Sorted set: who has records, in the order of bytes."""
        self.data_keys = keys.prefix + "owner-keys"
        """Hash: the wrapped data keys of owners, where their records are encrypted."""
        self.wrappers = keys.prefix + "owners-by-key"
        """Sorted set: owners by what wraps their data key, in the order of bytes."""
        self.expiry = keys.prefix + "by-expiry"
        """Sorted set: the records that expire, by when."""

    def records(self, key: Key) -> str:
        """Hash: the records of an owner by kind and name."""
        return f"{self._prefix}records:{Keys.member(key)}"

    def places(self, key: Key) -> str:
        """Sorted set: their kinds and names, in the order of bytes."""
        return f"{self._prefix}places:{Keys.member(key)}"

    @staticmethod
    def owner(key: Key) -> bytes:
        return "\0".join(key).encode()

    @staticmethod
    def parse_owner(member: bytes) -> Key:
        tenant, _, owner = member.decode().partition("\0")
        return tenant, owner

    @staticmethod
    def place(kind: str, name: str) -> bytes:
        return f"{kind}\0{name}".encode()

    @staticmethod
    def parse_place(place: bytes) -> tuple[str, str]:
        kind, _, name = place.decode().partition("\0")
        return kind, name

    @staticmethod
    def range_of(kind: str, after: str = "") -> tuple[bytes, bytes]:
        """From where to where the places of a kind go, behind a name."""
        return f"({kind}\0{after}".encode(), f"({kind}\1".encode()

    @staticmethod
    def spot(spot: Spot) -> bytes:
        return "\0".join(spot).encode()

    @staticmethod
    def parse_spot(member: bytes) -> Spot:
        return Spot(*member.decode().split("\0"))

    def wrapped(self, owner: Owner) -> bytes:
        return Keys.wrapped_by(owner.wrapper) + self.owner(owner.of)

    def parse_wrapped(self, member: bytes) -> Key:
        return self.parse_owner(member.partition(b" ")[2])
