"""Known tricks that are no file here: what each is instead, and why.

People look for these names among the tricks. Some are a design, a condition or a stored number of this
program; some need more than one training; some have no form for image classifiers. A trick that is
registered under such a name takes the row's place.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["protocol", "not in one run", "not applicable"]


class Row(NamedTuple):
    """One such name.

    `kind` is "protocol" (a design, condition, sweep or stored number here; `command` shows it, where there is
    one), "not in one run" (a second task, several models or several processes) or "not applicable" (no
    faithful form for image classifiers). `reason` puts names of tricks between backticks. `family` is that of the
    tricks it would stand among, or "text".
    """

    name: str
    family: str
    kind: Kind
    reason: str
    command: str = ""


_PROCESSES = "Here a run is one process on one device, and more devices train more runs at a time."

ROWS = (
    Row(
        "mixup_alpha_limit", "mixing", "protocol",
        "A sweep of the Beta parameter of `mixup` towards an even mix of every pair; the baseline is the limit at 0.",
        "harness ablate mixup.alpha=0.1,0.2,0.4,1,2,8,32 --design sweep",
    ),
    Row(
        "mixup_capacity", "mixing", "protocol",
        "The strength of `mixup` against the width of the network: one study for each width, compared at the end.",
        "harness ablate mixup.alpha=0.2,1 --design sweep --cross model.width=8,16,32",
    ),
    Row(
        "mixup_plus_dropout", "mixing", "protocol",
        "The arm dropout+mixup beside `mixup` and `dropout` alone; the pairs design estimates their interaction, at "
        "each level of label noise.",
        "harness ablate mixup dropout --design pairs --cross data.label_noise=0.2,0.5,0.8",
    ),
    Row(
        "aug_strength_sweep", "augment", "protocol",
        "A sweep of one augmentation's strength; any trick with a number for it will do.",
        "harness ablate random_rotation.degrees=2,5,10,20,45 --design sweep",
    ),
    Row(
        "error_driven_augment", "augment", "not in one run",
        "Somebody looks at the mistakes of one training and changes the augmentation of the next. The test logits of "
        "every run are stored with image positions and labels, so mistakes can be listed; a page that shows them "
        "and tries other crops on them is not available yet.",
    ),
    Row(
        "hyperparameter_search", "optimization", "protocol",
        "A search over the range that every card states: the baseline and each arm get the same number of trials, "
        "which see validation only, and the winners are compared on fresh seeds.",
        "harness search label_smoothing --trials 30",
    ),
    Row(
        "deeper_network", "architecture", "protocol",
        "The study at several depths, each with its own baseline: what a trick does to a deeper network. The accuracy "
        "of the depths themselves stands in the baseline rows.",
        "harness ablate mixup --cross model.name=resnet8,resnet20",
    ),
    Row(
        "backbone_choice", "architecture", "protocol",
        "The study with several networks, ours or timm's, untrained. Parameters and FLOPs are stored with every run; "
        "matching them between networks is left to you.",
        "harness ablate mixup --experiment imagenette --cross model.name=timm/resnet18,timm/mobilenetv3_small_100",
    ),
    Row(
        "model_ensemble", "regularization", "not in one run",
        "The mean of several trained networks. Seeds have test splits of their own, so their predictions cannot be "
        "averaged image by image on data without an official test split; a table of ensembles is not available yet. In "
        "one run: `snapshot_ensemble`, and `ema` or `stochastic_weight_averaging` for weights.",
    ),
    Row(
        "ewc_penalty", "regularization", "not in one run",
        "It protects a first task while a second one is learned, and an experiment has one task. The penalty itself "
        "also needs the Fisher information of the finished first task.",
    ),
    Row(
        "wgan_critic", "losses", "not applicable",
        "A critic scores images as real or generated and classifies nothing. What transfers is the bound on the "
        "weights: `weight_clip`.",
    ),
    Row(
        "meta_pseudo_labels", "distillation", "not in one run",
        "Teacher and student are two networks with an optimizer each; the teacher learns from the student's progress, "
        "and the student is fine-tuned afterwards. In one run with one network: `pseudo_label`.",
    ),
    Row(
        "cosine_self_training", "distillation", "not in one run",
        "Fine-tuning on weak labels, then self-training on soft labels that are renewed from time to time, with a loss "
        "on pairs: two stages with losses of their own. The nearest trick of one stage is `pseudo_label`.",
    ),
    Row(
        "transfer_vs_scratch", "transfer", "not in one run",
        "It needs a network that was trained on other images before. Every network here starts from random weights, "
        "timm's included; pretrained weights are not available yet.",
    ),
    Row(
        "pretrained_init_choice", "transfer", "not in one run",
        "It compares networks that were pretrained with finer or coarser labels; pretrained weights are not available "
        "yet.",
    ),
    Row(
        "domain_adaptive_pretraining", "transfer", "not in one run",
        "It goes on pretraining a network from elsewhere on images of the task; pretrained weights are not available "
        "yet. Pretraining on the task's own images, from random weights, is `masked_pretraining`.",
    ),
    Row(
        "multi_gpu_ddp", "efficiency", "not in one run",
        f"One training over several processes. {_PROCESSES} What changes with the large batch is `batch_size`, with "
        "`linear_lr_scaling`.",
    ),
    Row(
        "ddp_no_sync", "efficiency", "not in one run",
        f"It saves messages between processes during accumulation. {_PROCESSES} The accumulation is "
        "`gradient_accumulation`.",
    ),
    Row(
        "all_gather_inference", "efficiency", "not in one run",
        f"It collects predictions from several processes. {_PROCESSES}",
    ),
    Row(
        "all_gather_object", "efficiency", "not in one run",
        f"It collects Python objects from several processes. {_PROCESSES} Rows are files, which need no such call.",
    ),
    Row(
        "ablation_one_at_a_time", "evaluation", "protocol",
        "The default design: the baseline and each trick by itself. Also leave_one_out, cumulative and pairs.",
        "harness ablate mixup ema label_smoothing",
    ),
    Row(
        "combination_study", "evaluation", "protocol",
        "Designs that switch several tricks on together and estimate their interactions: pairs, factorial, fractional, "
        "cumulative and leave_one_out.",
        "harness ablate mixup ema label_smoothing --design factorial",
    ),
    Row(
        "random_seed", "evaluation", "protocol",
        "Every study repeats its arms over paired seeds and reports the spread. The aa design measures what the seed "
        "alone does: the baseline against itself with other random streams, the `placebo`.",
        "harness ablate --design aa --seeds 20",
    ),
    Row(
        "val_split_ratio", "evaluation", "protocol",
        "The study at several sizes of the validation split. Training and test images stay the same, so read it with "
        "harness report --metric val_accuracy; reports warn when the margin is lost in the noise of that split.",
        "harness ablate mixup --cross data.val_size=50,100,297",
    ),
    Row(
        "best_vs_last", "evaluation", "protocol",
        "The test split is read once, with the last weights, so there is no best epoch on test. Validation curves are "
        "stored and drawn, and a curve whose loss turns up early is reported as overfitting; a column for the best "
        "validation epoch is not available yet.",
    ),
    Row(
        "early_stopping", "evaluation", "protocol",
        "The length of training as a sweep, with the schedule stretched to fit: `train_longer` with factors below 1. "
        "A patience rule with a return to the best weights is not available yet.",
        "harness ablate train_longer.factor=0.25,0.5,0.75 --design sweep",
    ),
    Row(
        "label_corruption", "evaluation", "protocol",
        "The study at several shares of wrong training labels, drawn uniformly from the other classes; validation and "
        "test stay intact. The experiment digits-noisy has 15 %.",
        "harness ablate mixup --cross data.label_noise=0,0.2,0.5,0.8",
    ),
    Row(
        "adversarial_evaluation", "evaluation", "protocol",
        "Not available yet: test metrics are those of clean images. Training against attacks is: `fgsm_training`, "
        "`pgd_training`, `awp`.",
    ),
    Row(
        "metric_vs_loss", "evaluation", "protocol",
        "Accuracy, top-5 accuracy, negative log-likelihood, calibration error and Brier score of validation and test "
        "are stored with every run; any of them can be the metric of a report. Macro F1 is not available yet.",
        "harness report --metric test_nll",
    ),
    Row(
        "accuracy_and_loss_curves", "evaluation", "protocol",
        "Every report draws validation accuracy, validation negative log-likelihood and training loss over the epochs, "
        "with bands over the seeds, and says in words what they show.",
        "harness ablate mixup",
    ),
    Row(
        "bias_variance", "evaluation", "protocol",
        "Every report names overfitting, unfinished training and chance level where the curves show them, and the "
        "accuracy on clean training images is stored. A decomposition into bias and variance over seeds is not "
        "available yet.",
        "harness report --metric train_accuracy",
    ),
    Row(
        "leaderboard_holdout", "evaluation", "protocol",
        "Built in: three splits, and the test split is read once for each run, with the last weights. Looks at the "
        "resulting reports are not counted.",
    ),
    Row(
        "more_data", "data", "protocol",
        "The study at several sizes of the training split. Smaller splits lie inside larger ones, and validation and "
        "test stay the same.",
        "harness ablate mixup --cross data.train_size=25,50,100",
    ),
    Row(
        "mlm_posttraining", "text", "not applicable",
        "It predicts masked words. The counterpart for images hides patches: `masked_pretraining`.",
    ),
    Row(
        "efl", "text", "not applicable",
        "It asks a language model whether a sentence entails the description of a class; an image comes with no such "
        "sentence.",
    ),
    Row(
        "pet", "text", "not applicable",
        "It turns classes into words that a pretrained language model fills into a cloze; images have no words.",
    ),
    Row(
        "arccse", "text", "not applicable",
        "Contrastive learning of sentences with an angular margin. Its two parts for images: `simcse_aux` and, for "
        "the margin, `arcface_head`.",
    ),
    Row(
        "code_switch_mt_aug", "text", "not applicable",
        "It swaps words between languages. The part that asks for equal predictions on two versions of an input is "
        "`consistency_reg`.",
    ),
    Row(
        "simcse_pretraining", "text", "not applicable",
        "It goes on pretraining a sentence encoder. As a term beside the classifier's loss it is `simcse_aux`.",
    ),
    Row(
        "colbert_maxsim", "text", "not applicable",
        "It matches the words of a query with those of a document; a classifier has no query.",
    ),
    Row("eda_synonym_replacement", "text", "not applicable", "Pixels have no synonyms."),
    Row("eda_random_insertion", "text", "not applicable", "It inserts words; an image has a fixed size."),
    Row(
        "eda_random_swap", "text", "not applicable",
        "It swaps words. Swapped patches are another change with papers of its own, and not available yet.",
    ),
    Row(
        "eda_random_deletion", "text", "not applicable",
        "It drops words. What hides parts of an image: `cutout`, `random_erasing`.",
    ),
    Row(
        "back_translation", "text", "not applicable",
        "It translates a sentence there and back; no such translation exists for images. What loses detail and keeps "
        "the content: `random_blur`.",
    ),
    Row("pos_replacement", "text", "not applicable", "It replaces words by others of the same part of speech."),
    Row(
        "text_backbones", "text", "not applicable",
        "It chooses between language models. For networks that see images: backbone_choice.",
    ),
    Row(
        "rnn_gru", "text", "not applicable",
        "A recurrent cell for sequences; the networks here are feed-forward. Remedies against exploding gradients that "
        "carry over: `gradient_clipping`, `identity_init`.",
    ),
    Row(
        "lstm_dropouts", "text", "not applicable",
        "Five dropouts of a recurrent language model scaled by one factor. The same idea for convolutions: "
        "`dropout_multiplier`.",
    ),
    Row(
        "nlp_adam_betas", "text", "not applicable",
        "Moment decays chosen for language models. The same values as a trick for any network: `adam_betas`.",
    ),
    Row(
        "sentiment_transfer", "text", "not applicable",
        "A pretrained language model read for sentiment. For images: transfer_vs_scratch.",
    ),
    Row(
        "recsys_downsampling", "text", "not applicable",
        "It thins out the negatives of click data. Against classes of unequal size: `weighted_ce`, with data.imbalance "
        "for how unequal they are.",
    ),
    Row("scratch_gan", "text", "not applicable", "It generates text and classifies nothing."),
    Row(
        "attention_zoo_repo", "text", "not applicable",
        "A collection of attention modules and not one change; each would be a trick of its own.",
    ),
)  # fmt: skip
