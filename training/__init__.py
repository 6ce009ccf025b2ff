"""Models: fit, evaluate, export. Needs torch; knows nothing of where the data came from."""
