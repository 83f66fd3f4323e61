"""The report page: one HTML file that holds all of a run and asks for nothing else."""
