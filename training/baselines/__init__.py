"""Simple models that a graph model has to beat: each fits on a binary (users, items) matrix and scores users.

popularity    the same order for everyone
item_knn      cosine of items with shrinkage
rp3beta       random walks of three steps, popular ends damped
ials          implicit-feedback alternating least squares, by `implicit`
ease          closed-form ridge regression of every item on all others
sparse_ease   the same through a sparse factor of the inverse, for many items
mf            free vectors, learned by BPR, sampled softmax or SL@K (losses.py, embedding_fit.py), as the next two
lightgcn      free vectors averaged along the edges of the user-item graph
frozen_graph  the same beside a frozen item graph by text and image
"""

from training.baselines.ease import ease
from training.baselines.embedding_fit import EmbeddingSettings, FittedEmbeddings
from training.baselines.frozen_graph import FrozenGraphSettings, fit_frozen_graph
from training.baselines.ials import ials
from training.baselines.item_knn import item_knn
from training.baselines.lightgcn import LightGcnSettings, fit_lightgcn
from training.baselines.mf import fit_mf
from training.baselines.popularity import popularity
from training.baselines.rp3beta import rp3beta
from training.baselines.sparse_ease import sparse_ease

__all__ = [
    "EmbeddingSettings",
    "FittedEmbeddings",
    "FrozenGraphSettings",
    "LightGcnSettings",
    "ease",
    "fit_frozen_graph",
    "fit_lightgcn",
    "fit_mf",
    "ials",
    "item_knn",
    "popularity",
    "rp3beta",
    "sparse_ease",
]
