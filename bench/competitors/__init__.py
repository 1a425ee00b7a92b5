"""Other ways to do Sluice's work, which are compared with it. They import nothing of Sluice."""
