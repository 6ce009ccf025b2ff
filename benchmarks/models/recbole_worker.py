"""RecBole's LightGCN, an epoch for each line read: run by lightgcn_vs_recbole.py, with the Python that has RecBole.

    recbole_worker.py DATA_PATH DATASET THREADS CONFIG_JSON

Says {"ready": true, ...} once the model is built, then {"wall": s, "cpu": s, "loss": x} for each line "epoch".
"""

import json
import logging
import sys
import time

import torch


def main() -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender.lightgcn import LightGCN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    answers = sys.stdout
    sys.stdout = sys.stderr  # RecBole prints
    path, name, threads, settings = sys.argv[1:]
    sys.argv = sys.argv[:1]  # and reads the command line
    config = Config(model="LightGCN", dataset=name, config_dict={"data_path": path, **json.loads(settings)})
    logging.disable()
    torch.set_num_threads(int(threads))  # after Config, which sets what it likes
    init_seed(config["seed"], config["reproducibility"])
    train = data_preparation(config, create_dataset(config))[0]
    model = LightGCN(config, train.dataset)
    trainer = Trainer(config, model)
    edges = int(model.interaction_matrix.nnz)
    ready = {"ready": True, "interactions": edges, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(ready), file=answers, flush=True)
    for number, _ in enumerate(sys.stdin):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = trainer._train_epoch(train, number)
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": float(loss)}
        print(json.dumps(spent), file=answers, flush=True)


if __name__ == "__main__":
    main()
