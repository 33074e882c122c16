"""Teacher forcing: the loss and accuracies of a model that reads the reference tokens."""

import torch

from s2s.collectives import all_reduce_sum
from s2s.corpus.batches import Batches
from s2s.model.loss import TokenSums, batch_sums
from s2s.model.seq2seq import Seq2Seq


@torch.inference_mode()
def validate(model: Seq2Seq, batches: Batches) -> TokenSums:
    """Return the sums over the batches of all processes under teacher forcing, in float32."""
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=model.device)
    for step in batches.epoch(0):
        for batch in step.micro_batches:
            sums += batch_sums(model, batch.to(model.device))
    return TokenSums.from_tensor(all_reduce_sum(sums))
