"""Data sources: files, the hub and installed packages, behind one contract."""
