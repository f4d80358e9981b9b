"""Everything that speaks Flower: arrays, grids, apps and strategies."""
