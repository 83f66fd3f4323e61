"""The diff: what a task changes in the base, as a vector, as a file and on a model."""
