"""Labels for whole sets of shards: one shard to one Parquet file, on an engine of your choice."""
