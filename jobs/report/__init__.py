"""The review page of an output folder: what each photo looked like before and after.

``data.py`` reads the lineage, ``pictures.py`` draws, ``summary.py`` counts, ``write.py`` stores all
of it beside the page itself, which is in ``site/``.
"""

#: Photos that get pictures, unless told otherwise: some hundred MB of them.
SAMPLE = 500
