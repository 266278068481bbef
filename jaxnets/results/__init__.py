"""Results: the plan of what is measured, what runs leave in results/, tables and pictures of it.

    summary     runs summed up, a row a configuration
    plan        the rows of results/plan.py
    record      what a run leaves in results/ROW/seedK/
    pages       the tables of RESULTS.md and README.md
    pictures    accuracy against parameters, learning curves

Imports runs and config; jaxnets.reproduce trains and evaluates.
"""
