"""What the driver of a run does: passes, heartbeat, sizes of the pools, progress and cost."""
