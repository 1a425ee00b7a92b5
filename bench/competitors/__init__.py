"""Other ways to do Sluice's work, for comparison. They import nothing of Sluice."""
