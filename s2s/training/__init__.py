"""The training loop and all it needs: torch and torch.distributed only."""
