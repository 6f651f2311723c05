"""NeuRAG: documents become neurons inside a language model."""

__version__ = "0.1.0"
