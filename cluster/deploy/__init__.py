"""Files that set up a cluster, and what makes those of them that depend on the machines."""

from pathlib import Path

#: A pools' file that names the nodes which the autoscalers of these deploy files may add.
POOLS_FILE = Path(__file__).parent / "pools.toml"
