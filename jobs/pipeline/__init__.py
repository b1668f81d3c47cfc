"""How a run processes its rows on Ray."""
