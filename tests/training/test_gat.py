"""The network equals a slow dense reference, and starts as plain propagation."""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from training.gat import Gat, RelationAttention
from training.sparse import Pattern

N, M, D, H, HEAD = 20, 9, 6, 3, 4


def world(seed: int = 0) -> tuple[Gat, list[Pattern], Pattern, torch.Tensor]:
    torch.manual_seed(seed)
    model = Gat(num_items=N, content_dim=5, dim=D, gains=(0.8, 0.5), heads=H, head_dim=HEAD)
    relations = [Pattern(sp.random(N, N, 0.2, "csr", np.float32, random_state=s)) for s in (1, 2)]
    user_item = Pattern(sp.random(M, N, 0.3, "csr", np.float32, random_state=3))
    return model, relations, user_item, torch.randn(N, 5)


def to_dense(p: Pattern) -> torch.Tensor:
    rows = torch.repeat_interleave(torch.arange(p.shape[0]), p.crow.diff())
    return torch.zeros(p.shape).index_put((rows, p.col), p.prior)


def slow_attention(layer: RelationAttention, prior: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Loops over heads and rows, straight from the formula."""
    out = torch.zeros(N, N)
    for h in range(H):
        q = layer.query(x)[:, h * HEAD : (h + 1) * HEAD]
        k = layer.key(x)[:, h * HEAD : (h + 1) * HEAD]
        for i in range(N):
            weight = prior[i] * torch.exp(layer.sharpness[h] * torch.tanh(k @ q[i] / HEAD**0.5))
            if prior[i].sum() > 0:
                out[i] += weight / weight.sum() * prior[i].sum() / H
    return out


def test_the_fast_path_equals_the_slow_reference() -> None:
    model, relations, user_item, content = world()
    with torch.no_grad():
        for layer in model.layers:
            layer.sharpness.copy_(torch.tensor([0.5, -1.0, 2.0]))
    keep = (torch.arange(N) % 3 > 0).float()[:, None]
    e = keep * model.identity + model.content(content)
    near = torch.zeros(N, D)
    for layer, gain, edges in zip(model.layers, model.gain, relations, strict=True):
        near = near + gain * slow_attention(layer, to_dense(edges), e) @ e
    r = to_dense(user_item)
    trips = [e + model.hop * near]
    for _ in range(2):
        trips.append(r.T @ (r @ trips[-1]))
    mean = torch.stack(trips).mean(0)
    candidates, events = model.items(content, keep, relations, user_item)
    torch.testing.assert_close(candidates, mean + near)
    torch.testing.assert_close(events, mean)


def test_without_heads_neighbors_count_as_the_graph_weighs_them() -> None:
    _, relations, _, _ = world()
    x = torch.randn(N, D)
    layer = RelationAttention(D, 0, HEAD)
    torch.testing.assert_close(layer(relations[0], x), to_dense(relations[0]) @ x)


def test_attention_starts_as_degree_normalised_propagation() -> None:
    model, relations, _, content = world()
    x = model.content(content)
    layer = model.layers[0]
    torch.testing.assert_close(layer(relations[0], x), to_dense(relations[0]) @ x)


def test_attention_keeps_the_mass_of_the_edges_prior() -> None:
    model, relations, _, content = world()
    layer = model.layers[0]
    with torch.no_grad():
        layer.sharpness.fill_(3.0)
    alpha = layer.attention(relations[0], model.content(content))
    torch.testing.assert_close(relations[0].row_sums(alpha), relations[0].row_sums(relations[0].prior))


def test_a_shopper_is_the_unit_aggregate_of_the_history_and_nobody_without_one() -> None:
    model, _, _, _ = world()
    z, degree = torch.randn(N, D), torch.arange(N).float()
    history = Pattern(sp.csr_matrix(([1.0, 1.0], ([0, 0], [3, 7])), (2, N)))
    users = model.shoppers(z, degree, history)
    weight = model.history_weight(degree)
    expected = F.normalize(z[3] * weight[3] + z[7] * weight[7], dim=0)
    torch.testing.assert_close(users[0], expected)
    assert users[1].abs().max() == 0


def test_every_parameter_learns() -> None:
    model, relations, user_item, content = world()
    with torch.no_grad():
        for layer in model.layers:
            layer.sharpness.fill_(0.5)
    candidates, events = model.items(content, torch.ones(N, 1), relations, user_item)
    users = model.shoppers(events, torch.arange(N).float(), user_item)
    (users @ F.normalize(candidates, dim=1).T + model.prior(torch.arange(N).float())).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert still == []
