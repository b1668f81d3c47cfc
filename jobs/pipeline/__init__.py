"""What a run does with its rows on Ray, in the order in which a row meets it."""
