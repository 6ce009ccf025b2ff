"""The model report: one page from the results of a run, for whoever has to decide and whoever has to check.

`command` runs it, `run_results` reads, `page` puts the sections together; each section is a module of its own.
"""
