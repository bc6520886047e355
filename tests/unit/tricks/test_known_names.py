import shlex

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from harness.cli import app
from harness.tricks.cards import cards, others
from harness.tricks.not_applicable import KnownName

WANTED = {
    "regularization": """
        dropout dropout_multiplier stochastic_weight_averaging model_ensemble ewc_penalty stochastic_depth
        dropblock ema lawa model_soup shake_shake shakedrop label_free_penalties jacobian_reg gyro_dropout
    """,
    "distillation": """
        kd_logits_cached kd_plus_ood pseudo_label meta_pseudo_labels cosine_self_training masked_pretraining
        dkd fitnets attention_transfer born_again dml fixmatch noisy_student
    """,
    "data": """
        kfold_ensemble_cleaning confident_learning max_entropy_removal consensus_relabel
        ensemble_data_mining more_data oversampling outlier_removal missing_values small_sample_first
        polluted_class data_before_tricks data_understanding class_balanced_sampling selective_backprop el2n
        forgetting_pruning co_teaching elr dividemix curriculum active_learning
    """,
    "transfer": """
        transfer_vs_scratch pretrained_init_choice freeze_layers bn_freeze gradual_unfreezing
        progressive_resizing discriminative_lr domain_adaptive_pretraining l2_sp lp_ft wise_ft fixres
    """,
    "evaluation": """
        ablation_one_at_a_time random_seed val_split_ratio best_vs_last early_stopping label_corruption
        adversarial_evaluation test_time_augmentation metric_vs_loss accuracy_and_loss_curves bias_variance
        leaderboard_holdout combination_study cifar_c calibration autoattack paired_statistics
        compute_matched multi_crop ood_auroc tent
    """,
    "diagnosis": """
        curve_healthy curve_finetune_phase curve_not_learning curve_overfit curve_undertrained
        curve_slow_start curve_dirty_class curve_diverging curve_unshuffled curve_nan curve_small_val
        relu_before_softmax curve_checklist curve_noise_vs_batch init_loss_check overfit_one_batch
        label_shuffle_test grad_norm dead_relu
    """,
}
"""Names that people look for, by family: regularization and averaging, teachers, data, transfer, evaluation, curves."""


@pytest.mark.parametrize("family", WANTED)
def test_every_name_that_is_looked_for_is_a_trick_or_says_what_it_is(family):
    listed = {card["name"] for card in cards()}
    assert set(WANTED[family].split()) - listed == set()


@pytest.mark.parametrize(("kind", "command"), [("metric", ""), ("not available", "harness report"), ("design", "ls")])
def test_what_is_here_has_a_command_of_this_program_and_what_is_not_has_none(kind, command):
    with pytest.raises(ValidationError, match="has a command"):
        KnownName(name="a", family="text", kind=kind, reason="Because.", command=command)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, row in others().items() if row["command"].startswith("harness ablate")])
def test_the_commands_that_train_can_be_planned(name, tmp_path):
    words = shlex.split(others()[name]["command"])[2:]
    if "imagenette" in words:
        pytest.skip("needs the images of imagenette")
    result = CliRunner().invoke(app, ["plan", *words, "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
