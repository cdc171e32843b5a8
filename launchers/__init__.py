"""Starts the commands of `experiments`, one process for each job; never imports jax."""
