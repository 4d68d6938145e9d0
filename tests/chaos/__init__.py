"""A whole Barwright, broken at random while live, late and historical data flow; at the end every bar is the truth."""
