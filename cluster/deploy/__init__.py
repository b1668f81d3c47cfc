"""Deploy files for clusters, and the generator of those that depend on the machines."""

from pathlib import Path

#: A pools file with the nodes that the autoscalers of these deploy files can add.
POOLS_FILE = Path(__file__).parent / "pools.toml"
