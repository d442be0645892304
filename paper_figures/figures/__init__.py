"""The figures: each computes its data and draws them; the registry, the build and the page of all of them."""
