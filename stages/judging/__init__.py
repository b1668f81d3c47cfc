"""Whether to refine a crop, and whether an object came back."""
