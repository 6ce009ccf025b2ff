"""Simple models that a graph model has to beat: each fits on a binary (users, items) matrix and scores users.

popularity    the same order for everyone
item_knn      cosine of items with shrinkage
rp3beta       random walks of three steps, popular ends damped
ials          implicit-feedback alternating least squares, by `implicit`
ease          closed-form ridge regression of every item on all others
sparse_ease   the same through a sparse factor of the inverse, for many items
"""

from training.baselines.ease import ease
from training.baselines.ials import ials
from training.baselines.item_knn import item_knn
from training.baselines.popularity import popularity
from training.baselines.rp3beta import rp3beta
from training.baselines.sparse_ease import sparse_ease

__all__ = ["ease", "ials", "item_knn", "popularity", "rp3beta", "sparse_ease"]
