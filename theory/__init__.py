"""Numbers without sampling: channel entropies, speciation times and scaling laws, in float64."""
