"""The procedural world: images, captions, true tags and masks made from a seed, with nothing to download.

`objects` (shapes) and `scenes` (textures) -> `image` (one composed image) -> `captions` (one
caption and its true tags) -> `sample` (image + caption of one index) -> `writer` (the folders on
disk).
"""
