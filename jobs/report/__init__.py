"""The review page of an output folder: each photo before and after.

``listing.py`` reads the lineage, ``pictures.py`` renders pictures, ``summary.py`` counts, and
``write.py`` writes the results and the page itself, which is in ``site/``.
"""

#: Default number of photos with pictures: a few hundred MB.
SAMPLE = 500
