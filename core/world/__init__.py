"""The procedural world: pictures, captions, true tags and masks made from a seed, with nothing to download.

`objects` (shapes) and `scenes` (textures) -> `picture` (one composed picture) -> `captions` (one
caption and its true tags) -> `sample` (picture + caption of one index) -> `writer` (the folders on
disk).
"""
