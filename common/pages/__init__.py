"""Pages for a browser, each one file that needs no server and no network: what reports are made of.

A page is a body of markup (markup, table, directions, viewer) with the styles and scripts of its
blocks. Blocks know each other by one event: ``view-selected`` on the document, whose detail is the
number of a view or null; elements that stand for view n carry ``data-view="n"``.
"""
