"""The procedural world: images, captions, true tags and masks, made from a seed.

`objects` (shapes) and `scenes` (textures) -> `picture` (one composed image) -> `captions` (one
caption and its true tags) -> `sample` (image and caption of one index) -> `writer` (the folders on
disk). Nothing is downloaded.
"""
