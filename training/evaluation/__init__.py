"""Judging models: protocols, full ranking, slices, intervals, significance, and a ladder of models side by side.

result        what is known of one fitted model on one split, as files
judge         a model's scores or ranking -> its result
slices        head, middle and tail items; shoppers by activity
beyond        coverage, Gini, diversity, popularity lift
bootstrap     many figures resampled with the same shoppers
significance  paired bootstrap, t-test, effect size, Holm's correction
protocols     splits beside those of the `split` stage, and the guard against leaks
ladder        fit and judge many models, each in a process of its own, taken up where it stopped
"""
