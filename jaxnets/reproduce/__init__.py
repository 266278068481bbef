"""Everything in the plan of the results, one row after the other, each in a process of its own.

    state        what is done, what is missing and what it would take
    training     one seed of a training: its process, its figures, what is kept
    commands     a row of other commands

Imports results, evaluate and runs, and the trainers only inside the processes that they run in;
nothing imports it.
"""
