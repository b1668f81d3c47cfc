"""What inside a file still shows the old picture after an edit, or no longer holds.

Previews are drawn anew or dropped, gain maps, signatures and videos are dropped; every other byte
stays. Entry points: :func:`.jpeg.settle_jpeg` for whole JPEGs; :func:`.exif.settle_block`,
:func:`.xmp.settle_packet` and :func:`.photoshop.settle_resources` for the blocks of the other
formats, with :mod:`.jumbf` for their signatures; :func:`.compare.comparable` and
:func:`.previews.previews` to see what became of a file.
"""
