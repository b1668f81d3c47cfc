"""Update metadata that shows the old picture, or is invalid, after an edit.

EXIF's JPEG thumbnail is rebuilt; all other pictures, gain maps, signatures and videos are dropped,
with a note; all other bytes are kept. :class:`.policy.StaleDataPolicy` holds the recipe's options
and collects the notes. Entry points: :func:`.jpeg.refresh_jpeg` for the segments and trailer of a
JPEG; :func:`.exif.refresh_exif`, :func:`.xmp.refresh_xmp` and :func:`.photoshop.refresh_resources`
for the blocks of the other formats.
"""
