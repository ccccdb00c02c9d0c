"""Reports of trained runs: one page that shows what was learnt, how well, and how.

A method draws what there is to look at (looks.py); the pages are made of that and of what every run
folder holds (record.py), and know neither method.
"""
