"""Networks and classical fills: how they are loaded and run."""
