"""MoTE's temporal head against the released code's outputs."""

import pytest
import torch
import torch.nn.functional as F

from tests.reference.golden import Case, close, golden_cases, temperatures, unit
from vlbench.methods.mote.head import TAUS, TemporalHead, expert_probabilities, merge_weights, modulation


def head_of(golden: Case) -> TemporalHead:
    facts, state = golden.facts, golden.state()
    positions = state["frame_position_embeddings.weight"].shape[0]
    heads = facts["text_width"] // 64
    head = TemporalHead(facts["embed_dim"], heads, facts["temporal_layer"], facts["num_experts"], positions)
    state.pop("spe_cls_feature")
    head.load_state_dict(state, strict=True)
    return head


def cosines(output, classes):
    return unit(output.mean(1)) @ classes.T


@pytest.mark.parametrize("golden", golden_cases("mote_head", "eval"))
def test_evaluation(golden):
    head, x = head_of(golden), golden["in.frames"]
    classes, trained = golden["in.cls_gen"], golden["state.spe_cls_feature"]
    video = unit(x.mean(1))
    with torch.no_grad():
        for key, factor, against in (
            ("notfm", None, classes),
            ("tfm", modulation(video, classes, trained), classes),
            ("tfm_spe", modulation(video, trained, trained), trained),
        ):
            if f"eval.{key}.feat" not in golden.tensors:
                continue
            output = head(x, head.evaluation_routes(), factor)
            close(output, golden[f"eval.{key}.feat"], 1e-5)
            if f"eval.{key}.sim" in golden.tensors:
                close(cosines(output, against), golden[f"eval.{key}.sim"], 1e-5)
        if "eval.tfm.factor" in golden.tensors:
            close(modulation(video, classes, trained), golden["eval.tfm.factor"], 1e-4)


@pytest.mark.parametrize("golden", golden_cases("mote_head", "num_experts", "eval_merge_weights"))
def test_merged_weights(golden):
    with torch.no_grad():
        for index, block in enumerate(head_of(golden).transformer.resblocks):
            merged = block.mlp.merged(block.mlp.evaluation_route())
            close(block.mlp.evaluation_route(), torch.tensor(golden.facts["eval_merge_weights"][index]), 1e-5)
            for value, key in zip(merged, ("fc_up.weight", "fc_up.bias", "fc_dn.weight", "fc_dn.bias"), strict=True):
                if f"eval.merged.{index}.{key}" in golden.keys:
                    close(value, golden[f"eval.merged.{index}.{key}"], 1e-5)


@pytest.mark.parametrize("golden", golden_cases("mote_head", "num_experts", "merge_weights_per_tau"))
def test_routing_probabilities(golden):
    facts = golden.facts
    experts = facts["num_experts"]
    close(expert_probabilities(experts), torch.tensor(facts["expert_probabilities"]), 1e-5)
    assert tuple(temperatures(facts)) == TAUS
    for tau, weights in zip(TAUS, facts["merge_weights_per_tau"].values(), strict=True):
        close(merge_weights(experts, tau), torch.tensor(weights), 1e-5)


@pytest.mark.parametrize("golden", golden_cases("mote_head", "num_experts", "train"))
def test_both_training_branches(golden):
    head, x, trained = head_of(golden), golden["in.frames"], golden["state.spe_cls_feature"]
    experts, layers, taus = head.experts, head.layers, temperatures(golden.facts)

    def expert(picks):
        return cosines(head(x, picks), trained)

    def merged(taus_of_layers):
        output = head(x, [merge_weights(experts, tau) for tau in taus_of_layers])
        return cosines(output, trained), F.mse_loss(output, x)

    scale, labels = golden.facts["logit_scale"], golden["in.labels_spe"]
    # The golden logits are cosines or cosines times the scale; their size tells.
    factor = scale if max(v.abs().max() for k, v in golden.starting("train.").items() if "logits" in k) > 1.5 else 1.0

    def check(prefix, picks, taus_of_layers):
        logits, mse = merged(taus_of_layers)
        for key, actual in (("logits", factor * expert(picks)), ("logits_reg", factor * logits), ("mse", mse)):
            if f"{prefix}.{key}" in golden.keys:
                close(actual, golden[f"{prefix}.{key}"], 1e-5)

    with torch.no_grad():
        for k in range(experts):
            check(f"train.expert{k}", [k] * layers, taus[:1] * layers)
        for j, tau in enumerate(taus):
            check(f"train.tau{j}", [0] * layers, [tau] * layers)
        if mixed := golden.facts.get("mixed"):
            check("train.mixed", mixed["expert_per_layer"], [taus[j] for j in mixed["tau_index_per_layer"]])
        for key, losses in golden.starting("train.loss.").items():
            k, j = (int("".join(filter(str.isdigit, part))) for part in key.split("_"))
            ce = F.cross_entropy(scale * expert([k] * layers), labels)
            logits, mse = merged([taus[j]] * layers)
            ce_merged = F.cross_entropy(scale * logits, labels)
            close(torch.stack([ce, ce_merged, mse, ce + 0.5 * ce_merged + 0.1 * mse]), losses, 1e-5)


@pytest.mark.parametrize("golden", golden_cases("mote_head", "num_experts", "grad"))
def test_gradients_of_the_loss(golden, method_of_head):
    head = head_of(golden)
    x = golden["in.frames"].clone().requires_grad_()
    choice, layers = golden.facts["grad"], head.layers
    method = method_of_head(head, golden["state.spe_cls_feature"], golden.facts["logit_scale"])
    merges = [merge_weights(head.experts, temperatures(golden.facts)[choice["tau_index"]])] * layers
    terms = method.losses(x, golden["in.labels_spe"], [choice["expert"]] * layers, merges)
    terms["loss"].backward()
    close(terms["loss"], golden["grad.loss"], 1e-5)
    close(torch.stack([terms["ce"], terms["ce_merged"], terms["mse"]]), golden["grad.loss_parts"], 1e-5)
    close(x.grad, golden["grad.in.frames"], 1e-4)
    close(method.backbone.logit_scale.grad, golden["grad.logit_scale_log"], 1e-4)
    without = {name for name, parameter in head.named_parameters() if parameter.grad is None}
    assert without == set(choice["parameters_without_gradient"]) - {"spe_cls_feature"}
    # Key biases have no gradient in exact arithmetic; the largest gradient of any parameter is their yardstick.
    gradients = golden.starting("grad.param.")
    largest = max(gradient.abs().max() for gradient in gradients.values())
    parameters = dict(head.named_parameters())
    for parameter_name, expected in gradients.items():
        error = (parameters[parameter_name].grad - expected).abs().max()
        assert error <= 1e-4 * max(expected.abs().max(), 1e-2 * largest), (parameter_name, error)


@pytest.fixture
def method_of_head():
    """MoTE's own loss, around a given head."""
    from vlbench.backbones import TinyCLIP
    from vlbench.methods import MoTE

    def build(head, train_classes, scale):
        method = MoTE(TinyCLIP(pretrained=False), layers=1, experts=1)
        method.head = head
        method.train_class_features = train_classes
        with torch.no_grad():
            method.backbone.logit_scale.fill_(torch.tensor(scale).log())
        return method

    return build


@pytest.mark.parametrize("golden", golden_cases("mote_head", "none_head"))
def test_without_a_temporal_module(golden):
    """`sim_header: None` of the released code: the plain mean of the frames, as ZeroShot has it."""
    x = golden["in.frames"]
    close(cosines(x, golden["in.cls_gen"]), golden["none_head.eval.sim"], 1e-5)
    close(cosines(x, golden["state.spe_cls_feature"]), golden["none_head.train.logits"], 1e-5)
