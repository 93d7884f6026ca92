"""Maps drawn to the edges of the image: PAMR and DenseCRF."""
