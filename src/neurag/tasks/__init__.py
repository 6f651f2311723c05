"""Task adapters: what a backbone is taught once, for all documents: to read, and to write questions."""
