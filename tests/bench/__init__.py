"""Programs that measure this one; README.md says what each found. pytest collects none of them."""
