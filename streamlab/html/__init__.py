"""The report page: one HTML file that holds all of a run and loads nothing else."""
