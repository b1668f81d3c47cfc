"""The machines that deploy files ask for: one group of workers for each pool, and a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.pools import NodeType, Pools


@dataclass(frozen=True, slots=True)
class Machine:
    """Workers of one shape, which come and go with their pool's work.

    Attributes:
        pool: whose actors they are for.
        aws: type of the instances in EC2.
        cpus: of each.
        memory_gib: of each; a tenth is left to its system.
        gpus: of each.
        most: so many are started at most.
        cache_gib: of disk for weights and what else they keep for a while.
    """

    pool: str
    aws: str
    cpus: int
    memory_gib: int
    gpus: int
    most: int
    cache_gib: int

    @property
    def group(self) -> str:
        """Names the group; pools find theirs by it while no such node is up."""
        return self.pool.replace("_", "-")

    @property
    def labels(self) -> Mapping[str, str]:
        """Of Ray's, what the pool's actors select by default."""
        selector: dict[str, str] = getattr(Pools(), self.pool).label_selector
        return selector

    @property
    def usable_cpus(self) -> int:
        """Of its CPUs, what Ray's container may take."""
        return self.cpus - 1

    @property
    def usable_gib(self) -> int:
        """Of its memory, in GiB, what Ray's container may take."""
        return self.memory_gib * 9 // 10

    def node_type(self) -> NodeType:
        """As a pools' file names it; Ray keeps three tenths of the memory for its objects."""
        return NodeType(
            cpus=self.usable_cpus,
            gpus=self.gpus,
            memory_gib=self.usable_gib * 7 // 10,
            labels=dict(self.labels),
            max_nodes=self.most,
        )


#: In the order of the pools, the cheapest first. Text encoders pass through the small GPUs' hosts,
#: refiners through the large ones', where they take most memory; an L4 has 24 GB, an H100 80 GB.
MACHINES = (
    Machine("cpu", "m7i.4xlarge", cpus=16, memory_gib=64, gpus=0, most=20, cache_gib=20),
    Machine("small_gpu", "g6.2xlarge", cpus=8, memory_gib=32, gpus=1, most=4, cache_gib=100),
    Machine("large_gpu", "p5.4xlarge", cpus=16, memory_gib=256, gpus=1, most=16, cache_gib=100),
)
