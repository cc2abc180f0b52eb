"""Meaning: what each read model is, how facts merge into it, and where it is kept."""
