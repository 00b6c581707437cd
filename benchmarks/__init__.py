"""What ``make bench`` runs: each figure beside those of its peers. A benchmark is not a test: nothing here fails
because something is slow.
"""
