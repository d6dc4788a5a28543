"""What follows ``plainvision dynamic``: one file per verb, and what several of them are given or print.

network.py, data.py, space.py    what is evaluated, as words
outcomes.py                      what was evaluated, as folders
progress.py, tables.py           what a person sees
"""
