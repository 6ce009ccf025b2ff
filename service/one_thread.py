"""Imported before NumPy by the process that serves: its matrix products run on one thread, as FAISS and onnxruntime do.

A service scales by processes. OpenBLAS and OpenMP read these when they are loaded, and a second thread on a core that
another worker needs is waited for.
"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
