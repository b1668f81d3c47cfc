"""What inside a file still shows the old picture after an edit, or no longer holds.

JPEG thumbnails (EXIF, Photoshop, XMP) are drawn again; all other pictures, gain maps, signatures
and videos are dropped, with a note; every other byte stays. :class:`.policy.StaleDataPolicy` holds
what the recipe wants and collects the notes. Entry points: :func:`.jpeg.refresh_jpeg` for all that
is around a JPEG's picture; :func:`.exif.refresh_exif`, :func:`.xmp.refresh_xmp` and
:func:`.photoshop.refresh_resources` for the blocks of the other formats.
"""
