"""Routing, fusion and the layer itself: what makes a bank of neurons act inside the backbone."""
