"""Files of official releases from the network: fetched, checked, unpacked, remembered."""
