"""Neuro-RIT: which FFN units process evidence and which noise, found by attribution (docs/robust.md)."""
