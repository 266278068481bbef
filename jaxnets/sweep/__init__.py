"""Sweeps: many trainings that differ in settings, with optuna's storages, samplers and pruners.

    definition   what a sweep is, the same for all of its workers
    grid         every combination of values
    ablation     named settings, and what a document claims of them
    space        settings that optuna proposes
    recipe       a configuration as the text of a recipe
    size         parameters and operations, counted before anything is trained
    storage      the study in its storage, its sampler and pruner
    claims       which trial is whose, and what a dead worker leaves
    trial        one trial: its runs, its value
    worker       trial after trial, until nothing is left
    found        what came out: tables, JSON, CSV
    analysis     importance, fronts, latencies of the networks on them
    figures      pictures of it
    page         the HTML page

Imports results, report and runs, bench for latencies, and the trainer only inside the processes
that it runs in; nothing imports it.
"""
