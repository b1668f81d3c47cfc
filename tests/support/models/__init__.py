"""Small networks with random weights, and models that a run takes in place of the real ones."""
