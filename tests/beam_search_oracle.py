"""transformers' beam search restated a third way, in plain lists, as an oracle: slow, obvious, and independent."""

from collections.abc import Callable

import torch


def oracle(
    logits_of: Callable[[list[list[int]]], torch.Tensor],
    prompt: list[int],
    beams: int,
    max_total: int,
    eos: int,
    suppress: list[int],
    begin_suppress: list[int],
    length_penalty: float,
    early_stopping: bool | str,
) -> tuple[list[int], float, int]:
    """Best sequence (prompt and end-of-text included), its score, and the number of steps taken."""
    running = [list(prompt) for _ in range(beams)]
    scores = [0.0] + [-1e9] * (beams - 1)
    pool: list[tuple[float, list[int], bool]] = [(-1e9, [], False)] * beams
    length, steps = len(prompt), 0
    while True:
        log_probabilities = torch.log_softmax(logits_of(running).float(), -1)
        log_probabilities[:, suppress] = float("-inf")
        if length == len(prompt):
            log_probabilities[:, begin_suppress] = float("-inf")
        total = (log_probabilities + torch.tensor(scores)[:, None]).reshape(-1)
        best, index = torch.topk(total, 2 * beams)
        vocabulary = log_probabilities.shape[1]
        candidates = [
            (score, [*running[i // vocabulary], i % vocabulary])
            for score, i in zip(best.tolist(), index.tolist(), strict=True)
        ]
        ends = [tokens[-1] == eos or length + 1 >= max_total for _, tokens in candidates]
        generated = length + 1 - len(prompt)
        full = all(finished for _, _, finished in pool)
        for rank, ((score, tokens), end) in enumerate(zip(candidates, ends, strict=True)):
            joins = end and rank < beams
            normalised = torch.tensor(score) / generated**length_penalty
            if not joins or (early_stopping is True and full):
                normalised -= 1e9
            pool.append((float(normalised), tokens, joins))
        # Among equals torch.topk decides, as it does in transformers, over lists of the same length.
        pool = [pool[i] for i in torch.topk(torch.tensor([entry[0] for entry in pool]), beams).indices.tolist()]
        penalty = torch.tensor(ends).float() * -1e9
        going = [candidates[i] for i in torch.topk(best + penalty, beams).indices.tolist()]
        steps += 1
        length += 1
        if all(ends):
            break
        running, scores = [tokens for _, tokens in going], [score for score, _ in going]
        finished = [end for _, _, end in pool]
        horizon = max_total if early_stopping == "never" and length_penalty > 0 else length
        reachable = float(torch.tensor(scores[0]) / (horizon - len(prompt)) ** length_penalty)
        threshold = min(entry[0] for entry in pool)
        if all(finished) and (early_stopping is True or not reachable > threshold):
            break
    return pool[0][1], pool[0][0], steps


def random_language(seed: int, vocabulary: int, quantise: float) -> Callable[[list[list[int]]], torch.Tensor]:
    """Logits that depend on the whole sequence, the same for the same sequence; rounded when `quantise` is not 0."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(vocabulary, vocabulary, generator=generator) * 2
    drift = torch.randn(64, vocabulary, generator=generator)
    drift[:, 1] += 2.5  # end-of-text, in all of these tests

    def logits_of(sequences: list[list[int]]) -> torch.Tensor:
        rows = torch.stack([table[s[-1]] + 0.5 * table[s[-2]] + drift[(sum(s) + len(s)) % 64] for s in sequences])
        return torch.round(rows / quantise) * quantise if quantise else rows

    return logits_of
