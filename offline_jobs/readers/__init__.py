"""Readers of a shop's files: rows stream, refused rows are written down, bad files are named.

Read in this order: `detect` (which format), `raw` (what every reader gives), `validate` (which rows are let in);
then `lines`, `records` and `json_lines`, which make reading fast.
"""

from offline_jobs.readers.detect import FORMATS, open_shop
from offline_jobs.readers.quarantine import Quarantine
from offline_jobs.readers.raw import Shop
from offline_jobs.readers.validate import clean_interactions, clean_items

__all__ = ["FORMATS", "Quarantine", "Shop", "clean_interactions", "clean_items", "open_shop"]
