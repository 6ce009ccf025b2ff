"""The online half: opens a bundle and answers over REST and gRPC. Read `service/recommend.py` first."""

import os

# onnxruntime sends telemetry unless it is told not to before it is loaded; every part of PlotPointe imports this first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
