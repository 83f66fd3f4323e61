"""The home on disk: artifact store, curves, integrity, garbage collection, import."""
