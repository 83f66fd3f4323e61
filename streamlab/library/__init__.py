"""The Python API: homes and runs, their tables as frames, their figures."""
