"""The demo: an invented organisation, its documents and questions."""
