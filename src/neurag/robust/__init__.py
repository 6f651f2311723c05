"""Neuro-RIT: which FFN units process evidence and which process noise, found by attribution. docs/robust.md tells how."""
