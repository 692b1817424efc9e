"""How two processes find out that they belong together, before either says anything else.

Both sides say hello with a nonce; the dialler proves first that it knows the cluster secret, then the listener. A proof
is an HMAC over the prover's role, both nonces and the prover's hello, so it can neither be replayed nor reflected nor
passed on for somebody else.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Literal

from rayflow.cluster.fabric.frames import PROTOCOL_VERSION, Frame, Hello, Proof
from rayflow.errors import FrameInvalid, PeerLost

HANDSHAKE_BYTES = 1024
"""Longest frame that somebody unproved may send."""

Role = Literal["dial", "listen"]


class Handshake:
    """One side of it. `refuse(endpoint)` says that nobody may come from there any more.

    `expected`: the endpoint that was dialled; whoever else answers there is not who was meant.
    """

    def __init__(
        self,
        role: Role,
        endpoint: str,
        secret: bytes,
        refuse: Callable[[str], bool],
        blobs: str = "",
        expected: str = "",
    ) -> None:
        self.hello = Hello(PROTOCOL_VERSION, endpoint, secrets.token_hex(16), blobs)
        self.done = False
        self._role = role
        self._secret = secret
        self._refuse = refuse
        self._expected = expected
        self._theirs: Hello | None = None

    @property
    def peer(self) -> Hello:
        """What the peer said of itself: proved, once `done`."""
        assert self._theirs is not None
        return self._theirs

    def receive(self, frame: Frame) -> Proof | None:
        """Take the peer's next frame; what to answer. Raises `FrameInvalid` for who does not belong to us, `PeerLost`
        for who does no more."""
        if isinstance(frame, Hello) and self._theirs is None:
            self._meet(frame)
            return self._proof() if self._role == "dial" else None
        if isinstance(frame, Proof) and self._theirs is not None:
            theirs: Role = "listen" if self._role == "dial" else "dial"
            expected = self._mac(theirs, self._theirs, self.hello)
            if not hmac.compare_digest(frame.mac.encode(), expected.encode()):
                raise FrameInvalid("peer does not know the cluster secret")
            self.done = True
            return self._proof() if self._role == "listen" else None
        raise FrameInvalid("message before the handshake was done")

    def _meet(self, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION or not hello.nonce:
            raise FrameInvalid(
                f"peer speaks protocol {hello.version}, this process {PROTOCOL_VERSION}: run one rayflow version"
            )
        if self._expected and hello.endpoint != self._expected:
            raise PeerLost(f"{hello.endpoint} listens where {self._expected} was", peer=self._expected)
        if self._refuse(hello.endpoint):
            raise PeerLost(f"{hello.endpoint} was declared dead and is refused", peer=hello.endpoint)
        self._theirs = hello

    def _proof(self) -> Proof:
        return Proof(self._mac(self._role, self.hello, self.peer))

    def _mac(self, role: Role, prover: Hello, other: Hello) -> str:
        text = "\n".join(("rayflow", role, prover.nonce, other.nonce, prover.endpoint, prover.blobs)).encode()
        return hmac.digest(self._secret, text, "sha256").hex()
