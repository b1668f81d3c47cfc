"""Compare recipes on photos with known answers."""
