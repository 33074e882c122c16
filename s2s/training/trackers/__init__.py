"""Trackers, which record a training run: JSON lines, TensorBoard, MLflow, wandb, and a user's own.

Steps are optimizer steps since the run began, from 1, over all its sessions. An interrupted run
resumes from its last checkpoint; values logged for later steps are of work that was lost.
"""
