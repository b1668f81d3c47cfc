"""Where it runs: actor pools, their resources, and private local clusters."""
