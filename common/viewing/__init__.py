"""A live look at a run in a browser, while it trains or afterwards.

A method describes its run (run_view.py); a picture of that is a pure function of camera, size and
mode (drawing.py); checkpoints are followed as they are written (following.py); and only server.py
knows the viewer that shows all this, viser.
"""
