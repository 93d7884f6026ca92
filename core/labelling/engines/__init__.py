"""Who runs the shards beside this process: the ranks of a launcher, or Ray."""
