"""What a catalog will take: how many machines, how long, how much money, and where it waits."""
