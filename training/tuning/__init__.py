"""Which settings are best, by the validation split alone.

space.py        what may vary, and the quasi-random points that are tried
gat_space.py    the space of the GAT's fit
records.py      what is known of each trial, on disk: a search that was killed goes on from here
halving.py      stops trials that fall behind, from those records
search.py       Ray Tune runs the trials, bounded in processes and memory
gat_trial.py    one fit of the GAT as a trial
tune_stage.py   `plotpointe-train tune`
select.py       the winner among judged models, by validation figures
"""
