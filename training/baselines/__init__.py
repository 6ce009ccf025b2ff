"""Simple models that a graph model has to beat: each fits on a binary (users, items) matrix and scores users.

popularity   the same order for everyone
item_knn     cosine of items with shrinkage
ials         implicit-feedback alternating least squares, by `implicit`
ease         closed-form ridge regression of every item on all others
"""

from training.baselines.ease import ease
from training.baselines.ials import ials
from training.baselines.item_knn import item_knn
from training.baselines.popularity import popularity

__all__ = ["ease", "ials", "item_knn", "popularity"]
