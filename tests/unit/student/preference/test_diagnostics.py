"""Diagnostics: what each metric measures, and that each warning comes when it should, once, and says what to do."""

from math import isnan, log, nan

import pytest
import torch

from pad_student.preference.diagnostics import SignalMonitor
from pad_student.preference.metrics import choice_metrics, preference_metrics, sample_metrics

TEACHER = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 1.0]])
STUDENT = torch.tensor([[1.0, 2.0, 0.0], [0.0, 5.0, 4.0]])
MEAN_LOG_LIKELIHOOD = torch.tensor([[-1.0, -2.0, -3.0], [-7.0, -5.0, -6.0]])


def test_metrics_are_averages_over_prompts_under_fixed_names():
    metrics = preference_metrics(TEACHER, STUDENT, MEAN_LOG_LIKELIHOOD, torch.tensor([0.5, 1.0]))
    assert metrics["agreement/top1"] == 0.5
    assert metrics["agreement/pairwise"] == pytest.approx(4 / 5), "the teacher's tie is not counted"
    assert [metrics[f"mean_log_likelihood/rank_{k}"] for k in (1, 2, 3)] == [-3.0, -4.0, -5.0]
    assert metrics["label_mass"] == 0.75
    assert all(isinstance(value, float) for value in metrics.values())


def test_normalised_entropy_runs_from_one_hot_to_uniform():
    one_hot, uniform = torch.tensor([[80.0, 40.0, 0.0]]), torch.zeros(1, 3)
    metrics = preference_metrics(one_hot, uniform, uniform)
    assert metrics["entropy/teacher"] == pytest.approx(0, abs=1e-6)
    assert metrics["entropy/student"] == pytest.approx(1, abs=1e-6)
    assert "label_mass" not in metrics


def test_pairwise_agreement_of_ties_alone_is_not_a_number():
    assert isnan(preference_metrics(torch.zeros(1, 3), STUDENT[:1], STUDENT[:1])["agreement/pairwise"])


def test_copies_of_a_text_count_as_one_response():
    teacher, student = torch.tensor([[2.0, 1.0, 0.0]] * 2), torch.tensor([[1.0, 2.0, 0.0]] * 2)
    same_text = torch.tensor([[0, 0, 2], [0, 0, 0]])
    metrics = preference_metrics(teacher, student, student, same_text=same_text)
    assert metrics["agreement/top1"] == 1, "the student's best has the teacher's best text"
    assert metrics["agreement/pairwise"] == 1, "the pair that they order otherwise is two copies"
    alike = preference_metrics(teacher, student, student, same_text=torch.zeros(2, 3, dtype=torch.long))
    assert isnan(alike["agreement/top1"])
    assert isnan(alike["agreement/pairwise"])


def test_shares_count_cut_and_repeated_responses():
    same_text = torch.tensor([[0, 0, 2, 2], [0, 0, 0, 0]])
    cut, other_ids = (torch.tensor([[True, each, each, False]] * 2) for each in (False, True))
    found = sample_metrics(same_text, cut, other_ids)
    assert found == {"share/cut": 0.25, "share/copies": 0.625, "share/one_text": 0.5, "share/other_ids": 0.75}


@pytest.mark.parametrize(
    ("name", "option"), [("share/one_text", "learning_rate"), ("share/cut", "max_response_tokens")]
)
def test_responses_that_teach_nothing_are_warned_of(name, option):
    assert warnings_after([healthy(**{name: 0.3})] * 5) == []
    (said,) = warnings_after([healthy(**{name: 0.8})] * 5)
    assert option in said


def test_metrics_leave_the_graph_alone():
    student = STUDENT.clone().requires_grad_()
    preference_metrics(TEACHER, student, MEAN_LOG_LIKELIHOOD)
    assert student.grad is None


@pytest.mark.parametrize("student", [torch.zeros(2, 2), torch.zeros(2, 1)])
def test_metrics_refuse_wrong_shapes(student):
    teacher = torch.zeros(2, 1) if student.shape[1] == 1 else TEACHER
    with pytest.raises(ValueError, match="one shape"):
        preference_metrics(teacher, student, student)


def healthy(**changes):
    ranks = {f"mean_log_likelihood/rank_{k}": -1.0 - 0.1 * k for k in (1, 2, 3)}
    return {"entropy/teacher": 0.6, "entropy/student": 0.7, "label_mass": 0.95} | ranks | changes


def warnings_after(steps, monitor=None, loss=0.2, gradient_norm=1.0):
    monitor = monitor or SignalMonitor(window=3)
    return [message for metrics in steps for message in monitor.update(metrics, loss, gradient_norm)]


def test_a_healthy_run_raises_no_warning():
    assert warnings_after([healthy()] * 20) == []


@pytest.mark.parametrize(
    ("changes", "says", "option"),
    [
        ({"entropy/teacher": 0.01}, "almost certain of one ranking", "Lower beta_teacher"),
        ({"entropy/teacher": 0.99}, "hardly apart", "Raise beta_teacher"),
        ({"label_mass": 0.2}, "only 20%", "Lower alpha"),
    ],
)
def test_a_bad_teacher_signal_is_warned_of_once_with_the_option(changes, says, option):
    (message,) = warnings_after([healthy(**changes)] * 12)
    assert says in message
    assert option in message


def test_one_odd_batch_raises_no_alarm():
    assert warnings_after([healthy(), healthy(label_mass=0.1), healthy(), healthy()]) == []


@pytest.mark.parametrize(
    ("norm", "says"), [(0.0, "learns nothing"), (nan, "spoilt"), (float("inf"), "spoilt")], ids=["zero", "nan", "inf"]
)
def test_a_vanished_or_broken_gradient_is_warned_of_once(norm, says):
    monitor = SignalMonitor(window=50)
    first = warnings_after([healthy()], monitor, gradient_norm=norm)
    assert len(first) == 1
    assert says in first[0]
    assert warnings_after([healthy()] * 3, monitor, gradient_norm=norm) == []


def falling(*ranks):
    return [healthy(**{f"mean_log_likelihood/rank_{k}": -1.0 - 0.1 * step for k in ranks}) for step in range(12)]


def test_likelihood_displacement_is_warned_of_if_all_ranks_fall():
    (message,) = warnings_after(falling(1, 2, 3))
    assert "likelihood displacement" in message
    assert "anchor" in message


def test_a_rank_that_holds_is_no_displacement():
    assert warnings_after(falling(2, 3)) == []


def test_a_jsd_stuck_at_ln_2_is_warned_of_and_only_for_the_jsd():
    (message,) = warnings_after([healthy()] * 5, loss=log(2))
    assert "ceiling of ln 2" in message
    assert "beta_student" in message
    assert warnings_after([healthy()] * 5, SignalMonitor("vpd", window=3), loss=log(2)) == []


def test_lost_token_entropy_is_warned_of_once():
    def entropies(*values):
        return [{"token_entropy/student": value} for value in values]

    assert warnings_after(entropies(*[1.2] * 3, *[0.7] * 6), SignalMonitor(method="adpa", window=3)) == []
    (message,) = warnings_after(entropies(*[1.2] * 3, *[0.5] * 9), SignalMonitor(method="adpa", window=3))
    assert "fallen from 1.200 to 0.5" in message
    assert "Raise nll_weight" in message


def test_absent_values_are_not_judged():
    assert SignalMonitor(window=1).update({"entropy/teacher": 0.5}) == []


def chosen(spread, disagreement):
    return healthy(**{"choice/spread": spread, "choice/order_disagreement": disagreement})


def test_choice_at_chance_is_warned_of_within_three_steps():
    (warning,) = warnings_after([chosen(0.03, 0.4)] * 3)
    assert "near chance" in warning
    assert "--question" in warning
    assert warnings_after([chosen(0.03, 0.4)] * 2) == []


def test_choice_that_tells_responses_apart_is_no_chance():
    assert warnings_after([chosen(0.3, 0.4)] * 6) == []


def test_choice_metrics_are_means_of_what_is_given():
    found = choice_metrics(torch.tensor([0.1, 0.3]), None)
    assert found == {"choice/spread": pytest.approx(0.2)}


def token_step(student, teacher):
    return {"token_entropy/student": student, "token_entropy/teacher": teacher}


def test_a_lost_entropy_is_explained_by_the_method_that_lost_it():
    fallen = [token_step(2.0, 1.0)] * 4 + [token_step(0.2, 1.0)] * 6
    (adpa,) = warnings_after(fallen, SignalMonitor(method="adpa", window=3))
    assert "the advantage alone" in adpa
    assert "gamma" in adpa
    (dckd,) = warnings_after(fallen, SignalMonitor(method="dckd", window=3))
    assert "advantage" not in dckd
    assert "gamma" not in dckd
    assert "Raise chosen_weight and rejected_weight, or lower nll_weight" in dckd


def test_a_student_of_dckd_may_become_as_certain_as_its_teacher():
    fallen = [token_step(2.0, 0.3)] * 4 + [token_step(0.3, 0.3)] * 6
    assert warnings_after(fallen, SignalMonitor(method="dckd", window=3)) == []


@pytest.mark.parametrize(("method", "weight"), [("dckd", "chosen_weight and rejected_weight"), ("adpa", "gamma")])
def test_token_methods_are_told_nothing_about_beta(method, weight):
    monitor = SignalMonitor(method=method, window=3)
    said = [text for norm in (0.0, nan) for text in warnings_after([{}], monitor, gradient_norm=norm)]
    said += warnings_after([{"share/cut": 0.8}] * 3, monitor)
    said += warnings_after([{"learning_rate": 1e-6}] * 150, monitor, loss=0.69)
    assert len(said) == 4
    assert sum(weight in text for text in said) == 2
    assert not [text for text in said if "beta" in text or "preference" in text or "judges" in text]
