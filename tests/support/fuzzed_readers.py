"""Every reader of strangers' files, with a valid file for it: what the fuzz tests change.

READERS: {name: Reader}. `make(folder)` writes what is needed and returns the file that is changed;
`read(path)` reads it to the end as the scripts do.
"""

import fuzzed_benchmarks
import fuzzed_files
import fuzzed_records
import fuzzed_releases
import fuzzed_results
import fuzzed_weights

MODULES = (
    fuzzed_files,
    fuzzed_records,
    fuzzed_results,
    fuzzed_weights,
    fuzzed_releases,
    fuzzed_benchmarks,
)
READERS = {name: reader for module in MODULES for name, reader in module.READERS.items()}
