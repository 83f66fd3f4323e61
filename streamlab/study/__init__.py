"""Studies: grids of tasks, methods, sizes and seeds, each method tuned by the same rule."""
