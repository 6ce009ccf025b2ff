"""Where runs are kept: what a fit was made with, how its epochs went, what it ended with.

tracker.py          Tracker, the one seam: nothing, MLflow, Vertex AI Experiments
tracked_run.py      a run of any tracker that a fit can rely on: what fails is a warning, a resumed fit goes on
settings.py         which tracker, and `open_tracker`
mlflow_tracker.py   MLflow 3: SQLite in the run's folder, or any MLflow URI
vertex_tracker.py   Vertex AI Experiments, with series of epochs on a Tensorboard where one is named
vertex_clients.py   Google's clients: endpoint, credentials, timeouts, retries
provenance.py       code version and data fingerprint
"""
