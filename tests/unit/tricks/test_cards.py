import re
import shlex

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.metrics import COLUMNS
from harness.study import forecast
from harness.tricks import registry
from harness.tricks.cards import card, cards
from harness.tricks.not_applicable import KnownName, known_names

NAMES = (
    "erm_baseline", "cosine_decay", "lr_warmup", "warmup_cosine", "linear_lr_scaling", "batch_size",
    "label_smoothing", "mixup", "knowledge_distillation", "standard_augment", "mixed_precision", "weight_decay",
    "step_decay", "focal_loss", "weighted_ce", "flooding", "poly_loss", "bce_one_vs_rest", "log_softmax_ce",
    "sigmoid_range", "arcface_head", "soft_dice_loss", "multi_task_aux_loss", "center_loss", "triplet_aux",
    "wgan_critic", "gaussian_noise_vrm", "mixup_same_class", "mixup_knn", "mixup_input_only", "mixup_latent",
    "mixup_multi", "mixup_cross_batch", "mixup_alpha_limit", "mixup_capacity", "mixup_plus_label_smoothing",
    "mixup_plus_dropout", "cutmix", "cutout", "random_erasing", "random_crop", "random_resize", "random_flip",
    "random_rotation", "random_blur", "color_jitter_hsv", "random_affine", "random_perspective", "mosaic",
    "copy_paste", "domain_transfer_aug", "aug_strength_sweep", "error_driven_augment", "lr_range_test",
    "sgdr_warm_restarts", "snapshot_ensemble", "cyclical_lr", "adam", "adamw", "adabound", "adam_betas",
    "gradient_clipping", "train_longer", "optimizer_choice", "hyperparameter_search", "batch_norm", "group_norm",
    "bn_after_relu", "relu", "tanh_hidden", "skip_connection", "soft_threshold_act", "shrinkage_block",
    "identity_init", "kaiming_init", "init_sweep", "concat_pool", "stride_conv_vs_maxpool", "deeper_network",
    "repvgg_reparam", "input_standardization", "bnneck", "last_stride_1", "backbone_choice", "dropout",
    "dropout_multiplier", "stochastic_weight_averaging", "model_ensemble", "ewc_penalty", "fgsm_training",
    "fgm_training", "pgd_training", "awp", "r_drop", "consistency_reg", "simcse_aux", "memory_bank",
    "kd_logits_cached", "kd_plus_ood", "pseudo_label", "meta_pseudo_labels", "cosine_self_training",
    "masked_pretraining", "transfer_vs_scratch", "pretrained_init_choice", "freeze_layers", "bn_freeze",
    "gradual_unfreezing", "progressive_resizing", "discriminative_lr", "domain_adaptive_pretraining",
    "gradient_accumulation", "ddp_no_sync", "multi_gpu_ddp", "all_gather_inference", "all_gather_object",
    "gradient_checkpointing", "inference_fusion", "ablation_one_at_a_time", "random_seed", "val_split_ratio",
    "best_vs_last", "early_stopping", "label_corruption", "adversarial_evaluation", "test_time_augmentation",
    "metric_vs_loss", "accuracy_and_loss_curves", "bias_variance", "leaderboard_holdout", "combination_study",
    "mlm_posttraining", "efl", "pet", "arccse", "code_switch_mt_aug", "simcse_pretraining", "colbert_maxsim",
    "eda_synonym_replacement", "eda_random_insertion", "eda_random_swap", "eda_random_deletion",
    "back_translation", "pos_replacement", "text_backbones", "rnn_gru", "seq_regularisation", "lstm_dropouts",
    "nlp_adam_betas", "sentiment_transfer", "recsys_downsampling", "scratch_gan", "attention_zoo_repo",
)  # fmt: skip
"""What people may look for: every one must be a trick, or say what it is instead."""

ROWS = known_names()

TRICK_KEYS = {"trick", "kind", "name", "family", "summary", "paper", "formula", "expect", "differs", "cost", "excludes",
              "version", "measured", "eager", "hooks", "parameters"}  # fmt: skip


@pytest.fixture(scope="module")
def listed():
    return {c["name"]: c for c in cards()}


def test_every_known_name_has_one_card(listed):
    assert len(set(NAMES)) == len(NAMES)
    assert not set(NAMES) - set(listed)
    assert len(listed) == len(cards()) == len(registry.names()) + len(ROWS)


def test_no_built_in_trick_stands_among_the_other_names():
    assert not {row.name for row in ROWS} & set(registry.builtin())


def test_every_card_is_complete(listed):
    for c in listed.values():
        if c["trick"]:
            assert set(c) == TRICK_KEYS
            assert all(c[key] for key in ("summary", "paper", "formula", "expect", "differs", "family"))
            assert all(p["domain"] or p["search"] or p["default"] is None for p in c["parameters"]), c["name"]
        else:
            assert c["kind"] in ("protocol", "not in one run", "not applicable")
            assert c["reason"].endswith(".")
            assert c["command"] == "" or c["kind"] == "protocol"


ENTRY = {"name": "pet", "family": "text", "kind": "protocol", "reason": "Words.", "command": "harness ablate mixup"}


@pytest.mark.parametrize(
    "change",
    [{"kind": "trick"}, {"reason": "no sentence"}, {"kind": "not applicable"}, {"command": "rm"}, {"paper": "1"}],
    ids=str,
)
def test_an_entry_that_breaks_a_rule_of_the_file_is_refused(change):
    assert KnownName(**ENTRY)
    with pytest.raises(ValidationError):
        KnownName(**ENTRY | change)


def test_tricks_come_first_and_both_parts_are_sorted(listed):
    order = [(not c["trick"], c["family"], c["name"]) for c in listed.values()]

    assert order == sorted(order)


def test_a_trick_takes_the_place_of_the_other_name(monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {"early_stopping": registry.load("erm_baseline")})
    entry = card("early_stopping")

    assert entry["trick"]
    assert len(cards()) == len({c["name"] for c in cards()}) + 1, "the plug-in's class carries another trick's name"


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="unknown trick 'mixpu'"):
        card("mixpu")


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_a_reason_names_only_tricks_that_exist(row, listed):
    named = re.findall(r"`([^`]*)`", row.reason)

    assert row.reason.count("`") == 2 * len(named)
    assert set(named) <= set(registry.builtin())


TRAINING = [r for r in ROWS if " ablate " in r.command or " search " in r.command]


@pytest.mark.parametrize("row", TRAINING, ids=lambda r: r.name)
def test_a_study_that_a_reason_names_can_be_planned(row, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "run_seconds", lambda *_: (1.0, "no pilot"))
    out = CliRunner().invoke(app, [*shlex.split(row.command)[1:], "--dry-run"])

    assert out.exit_code == 0, out.output
    assert "skipped" not in out.output
    assert "to train:" in out.output


@pytest.mark.parametrize("row", [r for r in ROWS if " report " in r.command], ids=lambda r: r.name)
def test_a_report_that_a_reason_names_has_its_metric(row):
    harness, report, flag, metric = shlex.split(row.command)

    assert (harness, report, flag) == ("harness", "report", "--metric")
    assert metric in COLUMNS


def test_every_command_is_a_study_a_search_or_a_report():
    assert {r.command.split()[1] for r in ROWS if r.command} == {"ablate", "search", "report"}


@pytest.mark.parametrize("name", ["ewc_penalty", "early_stopping", "pet"])
def test_the_command_line_answers_with_the_reason(name, listed):
    out = CliRunner().invoke(app, ["tricks", name])
    shown = " ".join(out.output.split())

    assert out.exit_code == 0
    assert listed[name]["reason"] in shown
    assert listed[name]["kind"] in shown
    assert listed[name]["command"] in shown


def test_the_list_ends_with_the_other_names():
    out = CliRunner().invoke(app, ["tricks", "--family", "losses"])
    tricks, _, others = out.output.partition("1 other known names")

    assert "focal_loss" in tricks
    assert "wgan_critic" in others
