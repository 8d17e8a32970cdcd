"""Small networks trained at the same time: in order, one thread each, nothing shared."""

from functools import partial

import pytest
import torch
from torch import nn

from monai_vqbrain.metrics.concurrency import run_concurrently, seeded_network


def test_results_come_in_order_and_each_task_has_one_thread() -> None:
    threads = torch.get_num_threads()
    found = run_concurrently([lambda n=n: (n, torch.get_num_threads()) for n in range(5)])
    assert found == [(n, 1) for n in range(5)]
    assert torch.get_num_threads() == threads


def test_the_first_error_is_raised_and_threads_are_as_before() -> None:
    threads = torch.get_num_threads()

    def fail(name: str) -> None:
        raise ValueError(name)

    with pytest.raises(ValueError, match="^first$"):
        run_concurrently([partial(fail, "first"), partial(fail, "second")])
    assert torch.get_num_threads() == threads


def test_a_seeded_network_is_that_of_manual_seed_and_the_generator_continues() -> None:
    torch.manual_seed(7)
    wanted = nn.Linear(3, 2).weight.detach().clone()
    following = torch.rand(4)
    before = torch.get_rng_state()
    network, generator = seeded_network(partial(nn.Linear, 3, 2), 7)
    torch.testing.assert_close(network.weight.detach(), wanted, rtol=0, atol=0)
    torch.testing.assert_close(torch.rand(4, generator=generator), following, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_seeded_networks_of_concurrent_tasks_are_those_of_single_ones() -> None:
    build = partial(nn.Linear, 200, 200)
    tasks = [partial(seeded_network, build, seed) for seed in range(8)]
    alone = [task()[0].weight for task in tasks]
    together = [network.weight for network, _ in run_concurrently(tasks)]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
