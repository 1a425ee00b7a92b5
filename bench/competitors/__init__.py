"""Other ways to do Sluice's work, to be measured beside it; they import nothing of Sluice."""
