"""Families of towers, one adapter file each: from a library's or a file's names to ours."""
