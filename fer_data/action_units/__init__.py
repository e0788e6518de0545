"""Action units that faces show: how FACS writes them, and their estimate from blendshapes."""
