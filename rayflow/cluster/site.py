"""Where a process of the system is, and so how it listens and whom it reaches how.

Everything on the machine of the serve command meets in one run folder: unix sockets, the cluster secret, Ray's name of
that node. On a Ray cluster that rayflow joins there may be other machines: there, processes also listen on TCP, and
what they must know to find the coordinator comes with them, because they cannot read the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from rayflow.cluster.fabric.blobs import Blobs
from rayflow.cluster.fabric.sockets import SocketFabric, private_folder
from rayflow.errors import Unavailable
from rayflow.messages import Endpoint
from rayflow.runtime.roster import COORDINATOR


@dataclass(frozen=True, slots=True)
class Site:
    """`node`: Ray's id of this machine, or "" before it is known. `host`: its address for other machines, or "" where
    there are none."""

    run_dir: Path
    secret: bytes
    node: str = ""
    host: str = ""

    @classmethod
    def before(cls, run_dir: Path) -> Site:
        """The site of the process that is about to start or join Ray. Raises `Unavailable` where no system runs."""
        return cls(run_dir, read_secret(run_dir))

    @classmethod
    def of(cls, run_dir: Path) -> Site:
        """The site of a process on the serve command's machine. Raises `Unavailable` where no system runs, or not
        yet."""
        secret = read_secret(run_dir)
        try:
            node, host = (run_dir / "node").read_text().split("\n")
        except (OSError, ValueError):
            raise Unavailable(f"the system at {run_dir} is starting: try again shortly", retry_after_s=1) from None
        return cls(run_dir, secret, node, host)

    @staticmethod
    def announced(run_dir: Path) -> bool:
        """Whether `of` works."""
        return (run_dir / "node").exists()

    def announce(self) -> None:
        """Tell the processes to come on this machine."""
        draft = self.run_dir / "node.new"
        draft.write_text(f"{self.node}\n{self.host}")
        draft.replace(self.run_dir / "node")

    @property
    def coordinator(self) -> Endpoint:
        return Endpoint(COORDINATOR, f"unix:{self.run_dir / 'coordinator.sock'}", node=self.node)

    @property
    def namespace(self) -> str:
        """Where Ray keeps the names of this system's actors: the same for as long as the secret is."""
        return "rayflow-" + blake2b(self.secret, digest_size=4).hexdigest()

    def fabric(self, address: str, epoch: int, blobs: Blobs | None = None) -> SocketFabric:
        """The fabric of one incarnation, not started yet."""
        name = address.replace("/", "-") + f".{epoch}.sock"
        return self.listening(f"unix:{self.run_dir / name}", blobs=blobs)

    def listening(self, endpoint: str, port: int = 0, blobs: Blobs | None = None) -> SocketFabric:
        """`port`: for other machines; 0 picks a free one."""
        tcp = f"tcp:{self.host}:{port}" if self.host else ""
        return SocketFabric(endpoint, self.secret, blobs=blobs, node=self.node, tcp=tcp)

    def settle(self) -> None:
        """Have the run folder on this machine."""
        private_folder(self.run_dir.parent)
        private_folder(self.run_dir)


def read_secret(run_dir: Path) -> bytes:
    """The cluster secret. Raises `Unavailable` where no system runs."""
    try:
        return (run_dir / "secret").read_bytes()
    except OSError as error:
        raise Unavailable(f"no system runs at {run_dir}: {error.strerror}") from error
