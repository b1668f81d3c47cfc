"""The image work, step by step, in plain Python: no Ray here, so each step runs anywhere."""
