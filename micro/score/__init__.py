"""Truth against prediction: regions, classes of whole frames, and how sure a figure is."""
