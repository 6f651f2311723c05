"""How answers are judged, and which systems are compared."""
