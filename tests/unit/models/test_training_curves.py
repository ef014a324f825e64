from __future__ import annotations

from models.training_curves import MAX_POINTS, CurveRecorder, no_curve, thin


def test_a_thinned_curve_keeps_its_first_and_last_points_and_the_order_of_its_steps() -> None:
    points = [(step, float(-step)) for step in range(1, 1234)]
    thinned = thin(points, 200)
    assert len(thinned) == 200
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert thinned == sorted(set(thinned))
    assert set(thinned) <= set(points)


def test_a_curve_that_is_short_enough_keeps_every_point() -> None:
    points = [(step, 0.5) for step in range(200)]
    assert thin(points, 200) == points
    assert thin([(7, 1.0)], 200) == [(7, 1.0)]


def test_what_is_kept_is_passed_on_under_the_stage_it_belongs_to() -> None:
    told: list[tuple[str, float, int]] = []
    kept = CurveRecorder(lambda name, value, step: told.append((name, value, step)))
    kept.for_stage("sharing")("loss_log", 2.0, 1)
    kept.for_stage("catching up")("loss_log", 1.0, 1)
    assert told == [("sharing/loss_log", 2.0, 1), ("catching up/loss_log", 1.0, 1)]
    assert kept.thinned() == {"sharing/loss_log": [(1, 2.0)], "catching up/loss_log": [(1, 1.0)]}


def test_every_curve_is_thinned_however_long_the_others_are() -> None:
    kept = CurveRecorder(no_curve)
    for step in range(3 * MAX_POINTS):
        kept.for_stage("order")("loss", 1 / (1 + step), step)
    kept.for_stage("sharing")("loss_log", 1.0, 0)
    assert {name: len(points) for name, points in kept.thinned().items()} == {
        "order/loss": MAX_POINTS,
        "sharing/loss_log": 1,
    }
